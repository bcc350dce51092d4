"""A plugin imports a module beside it: what was hashed is what runs, there and from the copy that a run keeps."""

from pathlib import Path

import pytest
import torch

from ddpm_lab.config.load import load_recipe
from ddpm_lab.storage.run_folder import RunFolder, recorded_hash
from registry import plugins
from registry.beside import read_plugin
from registry.errors import BadInput
from registry.losses import LOSSES
from registry.plugins import load_file

PLUGIN = '''
import torch, helper
from other import POWER as power
from registry.losses import LOSSES

@LOSSES.register("{name}")
def loss(prediction, target):
    """A loss of a test (no source)."""
    import late
    return helper.scale() * late.ONE * torch.abs(prediction - target) ** power
'''
BESIDE = {
    "helper.py": "import other\n\ndef scale():\n    return 3.0 * other.POWER / 2\n",
    "other.py": "import helper\nPOWER = 2\n",  # in a circle
    "late.py": "ONE = 1.0\n",
    "idle.py": "1 / 0\n",  # nobody imports it
}


def _written(folder: Path, name: str = "with_modules", **changed: str) -> Path:
    folder.mkdir()
    for file, text in BESIDE.items():
        (folder / file).write_text(changed.get(file.removesuffix(".py"), text))
    (folder / "plugin.py").write_text(PLUGIN.format(name=name))
    return folder / "plugin.py"


def _loss(name: str = "with_modules") -> float:
    return float(LOSSES.configure(name, {})(torch.full((1,), 3.0), torch.full((1,), 1.0)))


def test_a_plugin_imports_modules_beside_it_early_and_late(tmp_path: Path) -> None:
    plugin = load_file(_written(tmp_path / "a"))
    assert next(iter(plugin.sources)) == "plugin.py"
    assert set(plugin.sources) == {"plugin.py", "helper.py", "other.py", "late.py"}
    assert _loss() == 3.0 * 4.0


def test_what_was_read_is_what_runs(tmp_path: Path) -> None:
    file = _written(tmp_path / "a")
    load_file(file)
    (tmp_path / "a/late.py").write_text("ONE = 100.0\n")
    assert _loss() == 12.0
    assert not list(tmp_path.rglob("*.pyc"))


def test_modules_of_one_name_beside_two_plugins_are_two(tmp_path: Path) -> None:
    load_file(_written(tmp_path / "a", "one"))
    load_file(_written(tmp_path / "b", "two", late="ONE = 10.0\n"))
    assert (_loss("one"), _loss("two")) == (12.0, 120.0)
    with pytest.raises(ModuleNotFoundError):
        import helper  # type: ignore[import-not-found]  # noqa: F401 - nobody else sees them


def _kept(folder: Path, tmp_path: Path) -> Path:
    run = RunFolder(folder)
    folder.mkdir()
    (name,) = run.keep_plugins([read_plugin(_written(tmp_path / "original"))])
    return folder / name


def test_a_run_keeps_the_modules_with_their_hashes_and_finds_them_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = _kept(tmp_path / "run", tmp_path)
    names = {"plugin.py", "helper.py", "other.py", "late.py"}
    assert {file.name for file in copy.parent.iterdir()} == names | {f"{name}.sha256" for name in names}
    for name in names:
        (tmp_path / "original" / name).unlink()
    load_file(copy, recorded_hash)
    assert _loss() == 12.0
    load_file(_written(tmp_path / "again"))  # the same by content, so nothing is registered twice


@pytest.mark.parametrize("name", ["helper.py", "late.py", "plugin.py"])
def test_a_kept_module_that_was_changed_or_has_no_hash_is_refused(name: str, tmp_path: Path) -> None:
    copy = _kept(tmp_path / "run", tmp_path)
    hash_file = copy.with_name(f"{name}.sha256")
    recorded = hash_file.read_text()
    hash_file.unlink()
    with pytest.raises(BadInput, match=rf"{name}' is no longer the plugin that the run recorded"):
        load_file(copy, recorded_hash)
    hash_file.write_text(recorded)
    copy.with_name(name).write_text(f"{copy.with_name(name).read_text()}\n")
    with pytest.raises(BadInput, match=rf"{name}' is no longer the plugin that the run recorded"):
        load_file(copy, recorded_hash)
    assert "with_modules" not in LOSSES


def test_a_kept_module_that_is_a_link_out_of_the_run_is_refused(tmp_path: Path) -> None:
    copy = _kept(tmp_path / "run", tmp_path)
    copy.with_name("late.py").unlink()
    copy.with_name("late.py").symlink_to(tmp_path / "original/late.py")
    with pytest.raises(BadInput, match=r"late\.py' is outside of the run's folder"):
        load_file(copy, recorded_hash)


def test_another_module_beside_makes_another_plugin(tmp_path: Path) -> None:
    load_file(_written(tmp_path / "a"))
    with pytest.raises(BadInput, match="'with_modules' is already registered"):
        load_file(_written(tmp_path / "b", late="ONE = 2.0\n"))


@pytest.mark.parametrize(
    ("late", "helper", "words"),
    [("ONE = 1\n", "x = 1\n1 / 0\n", r"fails in 'helper\.py' on line 2: ZeroDivisionError"),
     ("ONE = 1\n", "def f(:\n", r"plugin\.py' fails on line 2: SyntaxError"),
     ("ONE = 1\n", "import nowhere_at_all\n", r"fails in 'helper\.py' on line 1: ModuleNotFoundError")],
)  # fmt: skip
def test_a_module_that_fails_is_named_with_its_line(late: str, helper: str, words: str, tmp_path: Path) -> None:
    file = _written(tmp_path / "a", late=late, helper=helper)
    with pytest.raises(BadInput, match=words):
        load_file(file)


def test_modules_of_python_and_of_the_lab_are_never_something_beside(tmp_path: Path) -> None:
    file = _written(tmp_path / "a")
    for name in ("registry", "math", "ddpm_lab"):
        (tmp_path / "a" / f"{name}.py").write_text("1 / 0\n")
    (tmp_path / "a/helper.py").write_text("import math, ddpm_lab\ndef scale():\n    return math.sqrt(9)\n")
    load_file(file)
    assert _loss() == 12.0


def test_an_experiment_with_such_a_plugin_resolves_it(tmp_path: Path) -> None:
    _written(tmp_path / "a")
    root = Path(plugins.__file__).parents[1]
    (tmp_path / "a/x.yaml").write_text(f"extends: {root}/experiments/smoke.yaml\nplugins: [plugin.py]\nloss: with_modules\n")
    recipe = load_recipe(str(tmp_path / "a/x.yaml"))
    assert recipe.experiment.loss.name == "with_modules"
    assert [plugin.file for plugin in recipe.plugins] == [tmp_path / "a/plugin.py"]
