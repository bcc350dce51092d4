"""A wheel built from this checkout works where the checkout is not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Lab


@pytest.mark.slow
def test_a_wheel_works_outside_the_repository(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for name in ("ddpm_lab", "registry"):
        shutil.copytree(ROOT / name, tmp_path / "source" / name)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, tmp_path / "source" / name)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(tmp_path / "source")], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    (tmp_path / "away").mkdir()
    whole = lab("check", ROOT / "experiments/smoke.yaml", "--full").stdout.split("\n\n", 1)[1]
    (tmp_path / "away/mine.yaml").write_text(whole)
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    where = subprocess.run(
        [sys.executable, "-c", "import ddpm_lab, registry; print(ddpm_lab.__file__, registry.__file__)"],
        cwd=tmp_path / "away", env=env, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert where.count(str(tmp_path / "site")) == 2
    command = [sys.executable, "-m", "ddpm_lab", "run", "mine.yaml", "train.images=64", "evaluate.n=8"]
    done = subprocess.run(command, cwd=tmp_path / "away", env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "FID" in done.stderr
    assert (tmp_path / "away/results/latest/report.html").exists()
