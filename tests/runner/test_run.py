"""The three steps of a run: prepare, open, execute."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ddpm_lab.config.load import Recipe, load_recipe
from ddpm_lab.runner import preflight, prepare, run
from ddpm_lab.runner.callbacks import RunCallbacks
from ddpm_lab.runner.prepare import Prepared
from ddpm_lab.runner.resume import Place
from ddpm_lab.runtime.environment import Environment
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.training.callback import Callback
from registry.errors import BadInput

CPU = torch.device("cpu")


@pytest.fixture
def recipe() -> Recipe:
    few = ["train.images=640", "train.batch=32", "evaluate.features=[]", "evaluate.every=null", "train.threads=1", "track=none"]
    return load_recipe("smoke", few)


def test_nothing_is_on_the_disk_until_a_run_is_opened(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither preparing nor any constructor writes."""
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "results"
    place = Place(recipe, results, resume=True, run_id="mine")
    prepared = prepare.prepare(recipe.experiment, CPU, lambda: 1)
    folder = RunFolder(results / "smoke/20250101-000000-mine")
    run.Execution(prepared, folder, RunCallbacks(prepared, folder, []), [], None)
    assert not list(tmp_path.iterdir())
    opened, state = place.open(prepared.shape, Environment(), None)
    opened.release()
    assert opened.path.parent == results / "smoke"
    assert state is None


def test_check_and_run_build_through_the_same_function(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So what one of them refuses the other refuses too."""
    built: list[Prepared] = []

    def watched(*asked: object) -> Prepared:
        built.append(prepare.prepare(*asked))  # type: ignore[arg-type]
        return built[-1]

    monkeypatch.setattr(run, "prepare", watched)
    monkeypatch.setattr(preflight, "prepare", watched)
    execution = run.begin(recipe, tmp_path, CPU, resume=False)
    execution.folder.release()
    assert execution.prepared is built[0]
    lines = list(preflight.lines(recipe, "cpu"))
    assert len(built) == 2
    assert any(line.startswith("network ") for line in lines)
    wrong = load_recipe("smoke", ["sampling.weights=ema_7"])
    starts: list[Callable[[], object]] = [
        lambda: list(preflight.lines(wrong, "cpu")), lambda: run.begin(wrong, tmp_path / "other", CPU, resume=False)
    ]  # fmt: skip
    for start in starts:
        with pytest.raises(BadInput, match=r"sampling\.weights: this run will have no 'ema_7'"):
            start()
    assert not (tmp_path / "other").exists()


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The images at which a callback of a user's own was called: every 96, where a batch has 32 and a row has others."""
    found: list[int] = []
    usual = RunCallbacks.listed
    monkeypatch.setattr(RunCallbacks, "listed", lambda self: [*usual(self), Callback(found.append, every=96)])
    return found


def test_a_callback_of_its_own_hears_at_its_own_images_also_after_a_resumption(
    heard: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["train.images=640", "train.batch=32", "train.checkpoint_every=160", "train.samples_every=null"]
    recipe = load_recipe("smoke", [*options, "evaluate.features=[]", "evaluate.every=null", "train.threads=1", "track=none"])
    monkeypatch.setattr(run.Execution, "finish", lambda self: None)
    first = run.begin(recipe, tmp_path, CPU, resume=False)
    dies = Callback(lambda _: (_ for _ in ()).throw(KeyboardInterrupt), every=224)  # as if its process had been killed
    with pytest.raises(KeyboardInterrupt):
        first.trainer.run([*first.callbacks.listed(), dies])
    first.folder.release()
    assert heard == [96, 192]
    heard.clear()
    again = run.begin(recipe, tmp_path, CPU, resume=True)
    assert again.trainer.images == 160
    again.execute()
    assert heard == [192, 288, 384, 480, 576]
    rows = [json.loads(line) for line in again.folder.metrics.read_text().splitlines()]
    assert [row["images"] for row in rows if "learning_rate" in row] == list(range(32, 641, 32))
