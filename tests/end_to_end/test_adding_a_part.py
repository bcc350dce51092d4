"""docs/adding-a-part.md does what it says, in the house and outside it; so does a loss from an installed package."""

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, Lab

PAGE = (ROOT / "docs/adding-a-part.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.S)[0]
FEW = ["train.images=64", "evaluate.features=[]"]


def test_the_loss_of_the_page_is_what_it_says() -> None:
    scope: dict[str, Any] = {}
    exec(CODE.replace('@LOSSES.register("cauchy")\n', ""), scope)
    error = torch.tensor([1e-3, -1e-3, 1e6, 1e7], dtype=torch.float64)
    near, mirrored, far, farther = scope["cauchy"](error, torch.zeros_like(error)).tolist()
    assert near == mirrored == pytest.approx(1e-6, rel=1e-5)
    assert farther - far == pytest.approx(2 * math.log(10))


def test_in_the_house_one_file_and_one_word_of_yaml(tmp_path: Path) -> None:
    house = tmp_path / "house"
    for folder in ("registry", "ddpm_lab", "experiments"):
        shutil.copytree(ROOT / folder, house / folder)
    (house / "registry/losses/cauchy.py").write_text(CODE)
    code = "import sys\nfrom ddpm_lab.cli.main import main\nsys.exit(main(sys.argv[1:]) or main(['list', 'losses']))"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "smoke", "loss=cauchy", *FEW],
        cwd=house, env={**os.environ, "PYTHONPATH": str(house)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cauchy" in (house / "results/latest/resolved.yaml").read_text()
    assert "quadratic near zero, all but flat far away" in done.stdout


def test_outside_a_plugin_file_and_the_run_outlives_it(tmp_path: Path, lab: Lab) -> None:
    (plugin := tmp_path / "my_loss.py").write_text(CODE)
    (tmp_path / "mine.yaml").write_text("extends: smoke\nplugins: [my_loss.py]\nloss: {name: cauchy, scale: 0.5}\n")
    done = lab("run", tmp_path / "mine.yaml", *FEW, "--results", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    plugin.unlink()
    drawn = lab("sample", tmp_path / "results/latest", "-n", "4", "--out", tmp_path / "x.npz")
    assert drawn.returncode == 0, drawn.stderr


def test_from_an_installed_package(tmp_path: Path) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package/__init__.py").touch()
    (tmp_path / "my_package/parts.py").write_text(CODE)
    (info := tmp_path / "my_package-1.0.dist-info").mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ddpm_lab.parts]\nmy_parts = my_package.parts\n")
    # A fresh interpreter, because what is installed is known to one when it starts.
    code = """if True:
        import sys
        from ddpm_lab.cli.main import main
        assert main(sys.argv[1:]) == 0
        from ddpm_lab.testing import conforms
        from registry.losses import LOSSES
        conforms(LOSSES.part("cauchy").make, scale=0.5)
    """
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "smoke", "loss=cauchy", *FEW, "--results", str(tmp_path / "results")], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("row", re.findall(r"^\| `(\w+)` \| `\((.*?)\)`", PAGE, re.M))
def test_the_table_of_registries_is_true(row: tuple[str, str]) -> None:
    from registry.plugins import REGISTRIES

    name, parameters = row
    assert ", ".join(REGISTRIES[name].runtime) == parameters


def test_the_table_has_every_registry() -> None:
    from registry.plugins import REGISTRIES

    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.M) == list(REGISTRIES)
