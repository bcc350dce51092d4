"""A run says which code trained it, and which functions of the lab were not the lab's."""

import json
from pathlib import Path

import pytest
from conftest import Quick

from ddpm_lab.config.load import load_recipe
from ddpm_lab.runner import provenance
from ddpm_lab.runner.provenance import code_hashes, replaced

FEW = ["train.images=64", "evaluate.n=8", "evaluate.every=null", "evaluate.metrics=[]", "sampling.steps=2"]
REPLACING = """
import ddpm_lab.training.loss as loss
import registry.samplers.ddim
from ddpm_lab.training.trainer import Trainer


def mine(*arguments):
    return theirs(*arguments)


theirs, Trainer.batch = Trainer.batch, mine
"""


def test_nothing_of_an_honest_process_is_replaced() -> None:
    import ddpm_lab.runner.run
    import ddpm_lab.testing  # noqa: F401

    assert replaced() == []


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("ddpm_lab.training.loss.make_batch", "ddpm_lab.training.loss.make_batch"),
        ("ddpm_lab.training.trainer.training_loss", "ddpm_lab.training.trainer.training_loss"),
        ("ddpm_lab.training.trainer.Trainer.step", "ddpm_lab.training.trainer.Trainer.step"),
        ("ddpm_lab.training.learner.ModelLearner.path", "ddpm_lab.training.learner.ModelLearner.path"),
        ("registry.samplers.ddim.ddim", "registry.samplers.ddim.ddim"),
        ("ddpm_lab.diffusion.model.Objective", "ddpm_lab.diffusion.model.Objective"),
    ],
)
def test_a_replaced_function_is_named(place: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ddpm_lab.training.trainer  # noqa: F401

    monkeypatch.setattr(place, lambda *_: None)
    assert name in replaced()


def test_a_run_records_what_a_plugin_replaced(forks: object, tmp_path: Path) -> None:
    (tmp_path / "replacing.py").write_text(REPLACING)
    words = ["run", "smoke", *FEW, f"plugins=[{tmp_path / 'replacing.py'}]", "--results", tmp_path / "r"]
    process = forks.start(*words)  # type: ignore[attr-defined]
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert "warning: not the lab's own functions: ddpm_lab.training.trainer.Trainer.batch" in said
    environment = json.loads((tmp_path / "r/latest/environment.json").read_text())
    assert environment["replaced"] == ["ddpm_lab.training.trainer.Trainer.batch"]
    assert {"step", "plugin replacing.py", "loss l2"} <= set(environment["code"])


def test_the_hash_is_that_of_the_code_in_use(tmp_path: Path) -> None:
    recipe, other = load_recipe("cosine_l2").experiment, load_recipe("linear_l1").experiment
    mine, theirs = code_hashes(recipe, ()), code_hashes(other, ())
    assert mine == code_hashes(load_recipe("cosine_l2", ["seed=3", "train.images=640"]).experiment, ())
    assert mine["step"] == theirs["step"]
    assert {"schedule cosine", "loss l2", "backbone patch_unet"} <= set(mine)
    assert all(theirs[piece] == digest for piece, digest in mine.items() if piece in theirs)
    (plugin := tmp_path / "plugin.py").write_text("x = 1\n")
    with_plugin = code_hashes(recipe, [plugin])
    assert set(with_plugin) - set(mine) == {"plugin plugin.py"}
    plugin.write_text('"""A word about it."""\n\n# and another\nx = 1\n')
    assert code_hashes(recipe, [plugin]) == with_plugin
    plugin.write_text("x = 2\n")
    assert code_hashes(recipe, [plugin]) != with_plugin
    files = {file.name for file in provenance._with_imports(Path("registry/samplers/heun.py").resolve())}
    assert {"heun.py", "churn.py", "path.py"} <= files
    assert "lms.py" not in files


def test_compare_says_which_runs_other_code_trained(quick: Quick, tmp_path: Path) -> None:
    for seed in (0, 1):
        assert quick("run", "smoke", *FEW, f"seed={seed}", "--results", tmp_path / str(seed)).returncode == 0
    one, other = (str((tmp_path / f"{seed}/latest").resolve()) for seed in (0, 1))
    same = quick("compare", one, other)
    assert same.returncode == 0, same.stderr
    assert "trained" not in same.stdout
    environment = json.loads((file := Path(other) / "environment.json").read_text())
    environment["code"]["step"], environment["replaced"] = "0" * 12, ["ddpm_lab.training.loss.make_batch"]
    file.write_text(json.dumps(environment))
    marked = quick("compare", one, other).stdout
    assert "trained by different code of the step (" in marked
    assert f"{'0' * 12}: {other}" in marked
    assert f"{other}: trained with functions that are not the lab's: ddpm_lab.training.loss.make_batch" in marked
