"""Verdicts: pairs of runs, whose values are made up here but for one that is run, and what is kept of them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT, Quick
from support.forks import Forks, Process

from ddpm_lab.cli.main import main
from ddpm_lab.config.load import dump, load_recipe
from ddpm_lab.runtime.signals import Interrupted
from ddpm_lab.storage.json_text import write_json
from ddpm_lab.storage.measurement import Measurement, Protocol, RunResult, plain
from ddpm_lab.storage.results_folder import create_run
from ddpm_lab.studies import commands, verdict, verdict_file
from ddpm_lab.studies.pairs import Failed
from ddpm_lab.studies.question import Question, ask
from ddpm_lab.studies.verdict import Trial
from registry.errors import BadInput

TINY = [
    "train.images=64", "train.samples_every=null", "evaluate.n=8", "evaluate.every=null", "sampling.steps=3",
    "evaluate.metrics=[recall, held_out_loss]",
]  # fmt: skip
A, B = "smoke", "smoke loss=l1"
Values = Callable[[int, str], float]  # of a seed and a loss


def _question(a: str = A, b: str = B, metric: str | None = None, margin: float = 0.15) -> Question:
    return ask(a, b, TINY, None, metric, margin, 0.05)


class Pretended:
    """Runs that take no time, and come to whatever value is wanted; those of a value that is not positive fail."""

    def __init__(self, value: Values) -> None:
        self.value, self.told = value, list[str]()
        self.n: Callable[[int], int] = lambda _: 8

    def __call__(self, threads: int, device: str | None) -> "Pretended":
        """In place of `Lab`, which makes what runs commands."""
        return type("Lab", (), {"__call__": lambda _, *words: self.run(*words)})()  # type: ignore[no-any-return]

    def run(self, *words: str) -> int:
        assert words[0] == "run"
        at = words.index("--id")
        recipe = load_recipe(words[1], words[2:at])
        seed, loss = recipe.experiment.seed, recipe.experiment.loss.name
        self.told.append(f"{loss}, {seed}")
        value = self.value(seed, loss)
        if value <= 0:
            return 1
        folder = create_run(Path(words[at + 3]), recipe.name, words[at + 1])
        folder.experiment.write_text(dump(recipe.experiment))
        write_json(folder.environment, {"threads": 1, "commit": "abc"})
        protocol = Protocol("FID", "fashion_cnn", n=self.n(seed))
        made = {"sampler": "ddim", "random_streams": 2, "seed": recipe.experiment.sampling.seed}
        fid = Measurement("FID", "fashion_cnn", value, fingerprint=protocol.fingerprint, protocol=protocol, generation=made)
        records = (fid, Measurement("recall", "fashion_cnn", 0.25 if loss == "l1" else 0.5))
        write_json(folder.result, plain(RunResult(records, folder.id, 64, parameters=100, training_seconds=2.0)))
        folder.release()
        return 0


def _wobbling(ratio: float) -> Values:
    """B is that many times A, give or take 3 %."""
    return lambda seed, loss: (1 + 0.1 * (seed % 3)) * (ratio * (1.03 if seed % 2 else 0.97) if loss == "l1" else 1.0)


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[Values], Pretended]:
    def call(value: Values) -> Pretended:
        made = Pretended(value)
        monkeypatch.setattr(verdict, "Lab", made)
        return made

    return call


@pytest.mark.parametrize(("ratio", "outcome"), [(0.6, "better"), (1.6, "worse"), (1.0, "no difference")])
def test_it_runs_pairs_until_they_tell_and_keeps_what_it_rests_on(
    ratio: float, outcome: str, tmp_path: Path, pretend: Callable[[Values], Pretended]
) -> None:
    runs = pretend(_wobbling(ratio))
    found = Trial(_question(), tmp_path, None, 10, None).execute()
    assert found.outcome == outcome
    assert 3 <= len(found.pairs) < 10
    assert runs.told == [f"{loss}, {seed}" for seed in range(len(found.pairs)) for loss in ("l2", "l1")]
    assert [pair.seeds for pair in found.pairs] == [(seed, seed) for seed in range(len(found.pairs))]
    assert found.differs == {"loss.name": ("l2", "l1")}
    assert found.others == {"recall/fashion_cnn": (0.5, 0.25)}
    assert found.costs is not None
    assert found.costs["parameters"] == (100, 100)
    for pair in found.pairs:
        assert [(Path(run) / "result.json").is_file() for run in pair.runs] == [True, True]
        assert pair.ratio == pytest.approx(pair.values[1] / pair.values[0])
    assert verdict_file.read(tmp_path) == [found]
    # The same question again finds all done, and is the same verdict; another margin is another one.
    before = list(runs.told)
    assert Trial(_question(), tmp_path, None, 10, None).execute().pairs == found.pairs
    assert runs.told == before
    assert len((tmp_path / "verdicts.jsonl").read_text().splitlines()) == 2, "begun, and found"
    Trial(_question(margin=0.5), tmp_path, None, 3, None).execute()
    assert len(verdict_file.read(tmp_path)) == 2
    told = f"verdict 1 of 2 in {tmp_path}/verdicts.jsonl; of so many, up to 0.1 are expected to be wrong by chance"
    assert verdict_file.place(tmp_path, found.question) == told
    page = list(found.lines())
    assert page[0] == found.text
    assert len(page) == len(found.pairs) + 10
    assert ["recall/fashion_cnn", "0.5", "0.25"] in [line.split() for line in page]


def test_an_undecided_one_goes_on_with_more_pairs(tmp_path: Path, pretend: Callable[[Values], Pretended]) -> None:
    runs = pretend(_wobbling(0.9))
    first = Trial(_question(), tmp_path, None, 3, None).execute()
    assert first.outcome == "undecided"
    assert first.text.startswith("undecided after 3 pairs, under a minute; about ")
    assert len(runs.told) == 6
    later = Trial(_question(), tmp_path, None, 30, None).execute()
    assert later.outcome == "better"
    assert len(runs.told) == 2 * len(later.pairs)
    assert verdict_file.read(tmp_path) == [later]


def test_the_time_is_over(tmp_path: Path, pretend: Callable[[Values], Pretended]) -> None:
    pretend(_wobbling(0.9))
    found = Trial(_question(), tmp_path, None, 10, minutes=0.0).execute()
    assert (found.outcome, len(found.pairs)) == ("undecided", 1)


def test_a_verdict_that_was_stopped_is_listed_and_goes_on(tmp_path: Path, pretend: Callable[[Values], Pretended]) -> None:
    calls = []

    def stopping(seed: int, loss: str) -> float:
        calls.append(seed)
        if len(calls) == 4:
            raise Interrupted(15)
        return _wobbling(0.6)(seed, loss)

    runs = pretend(stopping)
    with pytest.raises(Interrupted):
        Trial(_question(), tmp_path, None, 10, None).execute()
    (begun,) = verdict_file.read(tmp_path)
    assert begun.text == "begun, and not finished"
    assert Trial(_question(), tmp_path, None, 10, None).execute().outcome == "better"
    assert runs.told.count("l1, 1") == 2, "the one that was stopped"
    assert max(map(runs.told.count, {*runs.told} - {"l1, 1"})) == 1


def test_two_processes_share_the_runs_and_find_the_same(tmp_path: Path, pretend: Callable[[Values], Pretended]) -> None:
    meet = threading.Barrier(2, timeout=30)

    def waiting(seed: int, loss: str) -> float:
        if seed == 0:
            meet.wait()  # so both are at work at once
        return _wobbling(0.6)(seed, loss)

    runs, found = pretend(waiting), []
    trials = [Trial(_question(), tmp_path, None, 10, None) for _ in range(2)]
    workers = [threading.Thread(target=lambda trial=trial: found.append(trial.execute())) for trial in trials]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(found) == 2
    assert found[0].pairs == found[1].pairs
    assert len(set(runs.told)) == len(runs.told), "nothing is run twice"
    assert verdict_file.read(tmp_path)[0].pairs == found[0].pairs


def test_a_run_that_fails_ends_it_without_a_verdict_and_is_tried_again(
    tmp_path: Path, pretend: Callable[[Values], Pretended]
) -> None:
    pretend(lambda seed, loss: -1 if (seed, loss) == (1, "l1") else 1.0)
    with pytest.raises(Failed, match="B, seed 1 failed with exit status 1"):
        Trial(_question(), tmp_path, None, 10, None).execute()
    (kept,) = verdict_file.read(tmp_path)
    assert kept.outcome == "failed"
    assert kept.text == "failed after 1 pair: B, seed 1 failed with exit status 1"
    pretend(_wobbling(0.6))
    assert Trial(_question(), tmp_path, None, 10, None).execute().outcome == "better"


def test_values_that_were_not_measured_alike_are_refused(tmp_path: Path, pretend: Callable[[Values], Pretended]) -> None:
    pretend(_wobbling(0.6)).n = lambda seed: 8 + seed
    with pytest.raises(BadInput, match=r"not measured alike \(n: 8 against 9\)"):
        Trial(_question(), tmp_path, None, 10, None).execute()


@pytest.mark.parametrize(
    ("a", "b", "metric", "said"),
    [
        ("smoke", "smoke", None, "A and B are the same recipe; to try it against itself, give B other seeds: seed=100"),
        ("smoke", "smokey", None, "B: no experiment named 'smokey'"),
        ("smoke loss=l3", "smoke", None, "A: .*no loss named 'l3'"),
        ("smoke", "smoke 'loss=l1", None, "B: No closing quotation"),
        ("smoke", "", None, "B: name an experiment"),
        ("smoke", "smoke evaluate.n=130", None, "B has another evaluate.n than A"),
        ("smoke", "smoke dataset.size=20", None, "B has another dataset.size than A"),
        ("smoke", "smoke sampling.seed=3", None, "B: sampling.seed=3: samples start from the noise of the run's own seed"),
        (A, B, "FIDD", "--metric: there is no metric 'FIDD'; did you mean 'FID'"),
        (A, B, "FID/inception_v3", "--metric: FID is not measured in 'inception_v3' here; .*known: fashion_cnn"),
        (A, "smoke loss=l1 evaluate.metrics=[]", "recall", "--metric: B does not measure recall"),
    ],
)
def test_bad_questions_are_refused(a: str, b: str, metric: str | None, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        ask(a, b, [], None, metric, 0.15, 0.05)


def test_metrics_outside_of_an_extractors_features_need_no_place() -> None:
    assert _question(metric="held_out_loss").metric == "held_out_loss/network"
    assert _question(metric="recall").rule.higher
    assert _question().metric == "FID/fashion_cnn"


def test_what_differs_is_told_part_by_part() -> None:
    two = _question("smoke", "smoke loss=huber loss.delta=2 train.clip=0.5")
    assert [one.key for one in two.differing] == ["loss.name", "train.clip"]
    assert not two.shared
    assert _question("smoke", "smoke sampling.sampler=ancestral sampling.weights=raw").shared
    assert not _question("smoke", "smoke seed=100 sampling.steps=2").shared
    itself = _question("smoke", "smoke seed=100")
    assert [(one.key, one.new) for one in itself.differing] == [("seed", 100)]
    assert "seed=102" in itself.b.command(2)
    assert "sampling.seed=102" in itself.b.command(2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--margin", "-1"], "--margin: '-1' is not a number from 0 to 10"),
        (["--alpha", "0.9"], "--alpha: '0.9' is not a number from 1e-06 to 0.5"),
        (["--pairs", "1"], "--pairs: 1 is not a number from 2 to 1000"),
        (["--minutes", "x"], "--minutes: 'x' is not a number"),
        (["schedule.start=5"], "schedule"),
        (["backbone.width=7"], "A: "),
        (["--budget", "cpuu"], "no budget named 'cpuu'"),
    ],
)
def test_bad_input_prints_one_line_and_creates_nothing(words: list[str], said: str, tmp_path: Path, quick: Quick) -> None:
    done = quick("verdict", A, B, *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_list_of_verdicts_that_is_damaged_keeps_what_is_whole(
    tmp_path: Path, pretend: Callable[[Values], Pretended], capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(_wobbling(0.6))
    found = Trial(_question(), tmp_path, None, 10, None).execute()
    file = tmp_path / "verdicts.jsonl"
    with file.open("a") as stream:
        stream.write('{"question": "half of a li')  # as a full disk leaves it
    other = Trial(_question("smoke", "smoke loss=l1 train.clip=0.5"), tmp_path, None, 2, None).execute()
    assert verdict_file.read(tmp_path) == [found, other]
    assert "line 3 is damaged, and left out" in capsys.readouterr().err
    file.write_text(json.dumps(json.loads(file.read_text().splitlines()[0]) | {"version": 2}))
    with pytest.raises(BadInput, match="of version 2; this ddpm_lab reads up to 1"):
        verdict_file.read(tmp_path)


def test_sampling_alone_shares_the_trained_runs(
    tmp_path: Path, forks: Forks, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real thing, in one pair."""
    told: list[str] = []

    def start(command: list[str], env: Mapping[str, str], **_: Any) -> Process:
        told.append(command[3])
        return forks.start(*command[3:], cwd=tmp_path, env=env)

    monkeypatch.setattr(commands, "subprocess", SimpleNamespace(Popen=start))
    monkeypatch.chdir(tmp_path)
    words = ["verdict", A, "smoke sampling.sampler=ancestral sampling.weights=raw", *TINY, "--minutes", "0", "--json"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "A and B differ in sampling alone" in said.err
    assert "warning: B differs from A in more than one key" in said.err
    found = json.loads(said.out)
    assert told == ["run", "evaluate"]
    assert found["outcome"] == "undecided"
    assert found["verdicts"] == 1
    assert [one["sampler"] for one in found["generation"]] == ["ddim (eta 0.0)", "ancestral"]
    assert [one["weights"] for one in found["generation"]] == ["ema", "raw"]
    (pair,) = found["pairs"]
    assert pair["runs"][0] == pair["runs"][1]
    assert pair["values"][0] != pair["values"][1]
    assert main(["verdicts"]) == 0
    listed = capsys.readouterr().out
    assert found["text"] in listed
    assert "sampling.sampler.name: ddim -> ancestral, sampling.weights: auto -> raw" in listed
    assert main(["verdicts", "--json"]) == 0
    assert [one["question"] for one in json.loads(capsys.readouterr().out)] == [found["question"]]


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_one_that_was_killed_leaves_nothing_behind_and_goes_on(signum: int, tmp_path: Path) -> None:
    """For real: in the middle of the second run, and then to the end."""
    some = [word for word in TINY if not word.startswith(("train.images", "evaluate.metrics"))]
    words = [
        "verdict",
        A,
        B,
        *some,
        "train.images=4800",
        "train.checkpoint_every=960",
        "evaluate.metrics=[FID]",
        "evaluate.n=120",
    ]
    command = [sys.executable, "-m", "ddpm_lab", *words, "--pairs", "2"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    process, deadline = start(), time.monotonic() + 240
    while len({file.parents[1] for file in tmp_path.rglob("checkpoints/0*")}) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signum)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}[signum]
    assert "everything is saved" in said, "its run has ended too, as if it had been asked to stop"
    (stopped,) = {file.parents[1] for file in tmp_path.rglob("checkpoints/0*")} - {
        file.parent for file in tmp_path.rglob("result.json")
    }
    assert verdict_file.read(tmp_path / "results")[0].text == "begun, and not finished"
    out, said = start().communicate(timeout=600)
    assert "resuming" in said
    assert stopped.name in said
    assert "after 2 pairs" in out
    assert len([*tmp_path.rglob("result.json")]) == 4
    (kept,) = verdict_file.read(tmp_path / "results")
    assert len(kept.pairs) == 2
