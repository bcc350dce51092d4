"""Parts from files and from installed packages (test_adding_a_part.py tests docs/adding-a-part.md whole)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry.errors import BadInput
from registry.losses import LOSSES
from registry.plugins import REGISTRIES, load_file

LOSS = '''
from registry.losses import LOSSES

@LOSSES.register("{name}")
def loss(prediction, target):
    """A loss of a test."""
    return prediction - target
'''


def test_a_file_is_run_once_also_as_a_copy(tmp_path: Path) -> None:
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(LOSS.format(name="of_a_file"))
        load_file(tmp_path / name)
    assert "of_a_file" in LOSSES


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no plugin file '.*gone\.py'"):
        load_file(tmp_path / "gone.py")


@pytest.mark.parametrize(("text", "words"), [("x = 1\n1 / 0\n", "line 2: ZeroDivisionError"), ("def f(:\n", "SyntaxError")])
def test_a_file_that_fails_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(BadInput, match=rf"bad\.py' fails.*{words}"):
        load_file(tmp_path / "bad.py")


def test_a_file_that_takes_a_name_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken.py").write_text(LOSS.format(name="l2"))
    with pytest.raises(BadInput, match=r"'l2' is already registered by registry\.losses\.l2"):
        load_file(tmp_path / "taken.py")


def test_a_broken_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken_package.py").write_text("raise ImportError('of its own')\n")
    (info := tmp_path / "broken_package-1.0.dist-info").mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ddpm_lab.parts]\nparts = broken_package\n")
    done = subprocess.run(
        [sys.executable, "-m", "ddpm_lab", "list"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "'broken_package' of the package 'broken-package' cannot be loaded: ImportError: of its own" in done.stderr


def test_every_part_says_what_it_is_in_one_sentence() -> None:
    for registry in REGISTRIES.values():
        assert list(registry)
        for part in registry:
            if not part.make.__module__.startswith("ddpm_lab_plugin"):
                assert len(part.summary) > 20, part.name
                assert part.summary.endswith((".", ",", ":")), part.name
