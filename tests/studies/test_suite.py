"""A suite as a user starts it: small ones, in a folder of their own."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Quick
from support.forks import Forks
from support.wandb_server import WandbServer

from ddpm_lab.cli.main import main
from ddpm_lab.studies import commands, suite, wandb_run
from registry.errors import BadInput

SMALL = [
    "train.images=320", "train.batch=32", "train.samples_every=null", "evaluate.n=120", "evaluate.every=null",
    "sampling.steps=4",
]  # fmt: skip
PLAN: dict[str, Any] = {
    "about": "A test.",
    "experiments": ["smoke", {"name": "v", "experiment": "smoke", "set": ["target=v"]}],
    "seeds": [0, 1],
    "set": SMALL,
    "factors": {"target": "target.name"},
    "metrics": ["FID", "recall", "held_out_loss"],
    "curve": {"samplers": ["ddim"], "at": [2, 4], "n": 120},
}


def _command(folder: Path, words: Sequence[str] = (), **changed: Any) -> list[str]:
    (folder / "small.yaml").write_text(json.dumps(PLAN | changed))
    return ["bench", "small.yaml", "--reports", "reports", *words]


def _bench(forks: Forks, folder: Path, words: Sequence[str] = (), env: Mapping[str, str] | None = None, **changed: Any) -> None:
    """The suite in this process; what it starts are forks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "subprocess", SimpleNamespace(Popen=forks.in_place_of_python))
        patch.chdir(folder)
        for name, value in {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", **(env or {})}.items():
            patch.setenv(name, value)
        assert main(_command(folder, words, **changed)) == 0


@pytest.fixture(scope="session")
def finished(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the whole suite has been run; no test changes its results."""
    _bench(forks, folder := tmp_path_factory.mktemp("suite"))
    return folder


def test_the_report_has_all_that_was_found(finished: Path) -> None:
    report = finished / "reports/small"
    found = json.loads((report / "report.json").read_text())
    assert {run["status"] for one in found["experiments"] for run in one["runs"]} == {"finished"}
    ranked = [one["typical"]["value"] for one in found["experiments"]]
    assert ranked == sorted(ranked)
    assert found["freedom"] == 2
    levels = found["factors"]["target"]["levels"]
    assert levels[1]["ratio"] == pytest.approx(ranked[1] / ranked[0])
    assert [len(one["curve"]) for one in found["experiments"]] == [2, 2]
    assert found["curve_at"] == [2, 4]
    page, text = (report / "report.html").read_text(), (report / "report.md").read_text()
    assert page.count("<svg") == 2  # the ranking and the curve: nothing was measured while it trained
    assert page.count("data:image/png") == 2
    assert not re.search(r"""(src|href)=(?!["'](data:|#))|@import|url\((?!#)""", page)  # one file, which loads nothing
    for word in ("| 1 | `", "held-out images", "No p-values", found["protocols"]["FID"]["fingerprint"]):
        assert word in text
    assert str(finished) not in page + text


def _columns(table: str) -> list[str]:
    """The head of the ranking, as Markdown has it."""
    return [cell.strip() for cell in table.partition("## Ranking")[2].splitlines()[2].split("|")]


def test_each_extractor_has_a_column_with_its_own_protocol_floor_and_mean(finished: Path, quick: Quick, tmp_path: Path) -> None:
    """A second extractor's values, put into the results: three times the first one's FID, and another recall."""
    shutil.copytree(finished / "results", tmp_path / "results", symlinks=True)
    values: dict[str, list[float]] = {}
    for file in (tmp_path / "results").rglob("result.json"):
        told = json.loads(file.read_text())
        more = [dict(one, extractor="other", fingerprint=f"other {one['metric']}") for one in told["metrics"][:2]]
        for one, factor in zip(more, (3.0, 0.5), strict=True):
            one |= {"value": factor * one["value"], "interval": None, "floor": factor * one["floor"]}
            one["protocol"] = dict(one["protocol"], extractor="other")
        told["metrics"] += more
        file.write_text(json.dumps(told))
        values.setdefault(file.parent.name.split("-")[2], []).append(more[0]["value"])
    done = quick(*_command(tmp_path, ["--report"], curve=None), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "reports/small/report.json").read_text())
    one = json.loads((finished / "reports/small/report.json").read_text())
    assert one["metrics"] == ["FID", "recall", "held_out_loss"], "of one extractor the names stay"
    names = ["FID (fashion_cnn)", "FID (other)", "recall (fashion_cnn)", "recall (other)", "held_out_loss"]
    assert found["metrics"] == list(found["protocols"]) == names
    assert [found["protocols"][name]["extractor"] for name in names] == [
        "fashion_cnn",
        "other",
        "fashion_cnn",
        "other",
        "network",
    ]
    assert found["floor"]["FID (other)"]["floor"] == pytest.approx(3 * one["floor"]["FID"]["floor"])
    assert found["protocols"]["FID (other)"]["fingerprint"] == "other FID"
    for ours, before in zip(found["experiments"], one["experiments"], strict=True):
        assert ours["typical"] == before["typical"], "the first one ranks"
        assert ours["means"]["FID (fashion_cnn)"] == before["means"]["FID"]
        assert ours["means"]["FID (other)"] == pytest.approx(sum(values[ours["name"]]) / 2)
        assert ours["means"]["recall (other)"] == pytest.approx(before["means"]["recall"] / 2)
    text, page = ((tmp_path / f"reports/small/report.{kind}").read_text() for kind in ("md", "html"))
    assert _columns(text)[6:10] == ["FID (other)", "recall (fashion_cnn) ↑", "recall (other) ↑", "held_out_loss"]
    for name in ("FID (other)", "recall (other) ↑"):
        assert f'<th class="n">{name}</th>' in page


@pytest.mark.slow
def test_two_extractors_for_real(forks: Forks, tmp_path: Path) -> None:
    both = [*SMALL, "evaluate.features=[fashion_cnn, fashion_vicreg]", "evaluate.every=160", "evaluate.n_during=64"]
    _bench(forks, tmp_path, set=both, seeds=[0])
    found = json.loads((tmp_path / "reports/small/report.json").read_text())
    assert found["metrics"][:2] == ["FID (fashion_cnn)", "FID (fashion_vicreg)"]
    for one in found["experiments"]:
        (run,) = one["runs"]
        assert list(run["over_training"]) == found["metrics"][:2]
        assert all(run["over_training"].values())
        assert [(point["evaluations"], point["metric"]) for point in one["curve"]] == [
            (steps, name) for steps in (2, 4) for name in found["metrics"][:2]
        ]  # fmt: skip
    page = (tmp_path / "reports/small/report.html").read_text()
    assert page.count("<svg") == 5, "the ranking, and over training and against evaluations one for each extractor"
    tables, names = wandb_run._tables(found), found["metrics"]
    assert tables["ranking"].columns[2:] == [names[0], "low", "high", "runs", *names[1:]]
    assert tables["runs"].columns[5:] == names
    assert [tables[f"curves, {name}"].columns[3] for name in names[:2]] == names[:2]
    assert [len(tables[f"curves, {name}"].data) for name in names[:2]] == [4, 4]


def test_what_is_finished_is_not_run_again_and_another_run_is_not_taken_for_it(
    finished: Path, forks: Forks, quick: Quick
) -> None:
    def files() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in (finished / "results").rglob("*.*") if "curve" not in file.name}

    before = files()
    assert len([file for file in before if file.name == "result.json"]) == 4
    _bench(forks, finished)
    assert files() == before | {file: files()[file] for file in before if file.name == "failures.json"}
    changed = _command(finished, ["--report"], set=[*SMALL, "train.clip=0.5"], curve=None)
    other = quick(*changed, cwd=finished)
    assert other.returncode == 2
    assert "no run of the suite is finished" in other.stderr


def test_without_a_folder_for_benchmarks_the_report_lies_beside_the_runs(finished: Path, tmp_path: Path, quick: Quick) -> None:
    (tmp_path / "results").symlink_to(finished / "results")
    words = [word for word in _command(tmp_path, ["--report"]) if word not in ("--reports", "reports")]
    for place in ("results/suites/small/report", "benchmarks/reports/small"):
        assert quick(*words, cwd=tmp_path).returncode == 0
        assert (tmp_path / place / "report.html").is_file()
        (tmp_path / "benchmarks").mkdir(exist_ok=True)


def test_a_run_that_fails_is_shown_as_failed_and_tried_again(
    finished: Path, forks: Forks, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished / "results", tmp_path / "results", symlinks=True)
    keys = {"train.rate.peak": "1e30", "train.rate.warmup": "0", "train.clip": "null"}
    bad = {"name": "wild", "experiment": "smoke", "set": [f"{key}={value}" for key, value in keys.items()]}
    changed = {"experiments": ["smoke", bad], "seeds": [0], "curve": None, "factors": {key: key for key in keys}}
    for _ in range(2):
        _bench(forks, tmp_path, **changed)
        said = capfd.readouterr().err
        assert "wild-0-" in said
        assert "failed with exit status 1" in said
    found = json.loads((tmp_path / "reports/small/report.json").read_text())
    assert [run["status"] for run in found["failed"]] == ["failed"]
    assert found["experiments"][-1]["name"] == "wild"
    assert "seed 0 failed (1)" in (tmp_path / "reports/small/report.html").read_text()
    assert "**failed**, exit status 1" in (tmp_path / "reports/small/report.md").read_text()


def test_tables_pictures_and_page_reach_wandb(finished: Path, forks: Forks, tmp_path: Path, wandb_server: WandbServer) -> None:
    shutil.copytree(finished / "results", tmp_path / "results", symlinks=True)
    _bench(forks, tmp_path, ["--report"], wandb_server.env)
    (run,) = wandb_server.runs.values()
    assert run.name == "suite small"
    (row,) = run.history
    for key in ("ranking", "runs", "effects", "curves", "samples/smoke", "report"):
        assert key in row, row
    assert any("table" in name for name in run.files)
    assert any(name.endswith(".png") for name in run.files)
    assert any(name.endswith(".html") for name in run.files)


def test_without_wandb_the_report_stands(
    finished: Path, forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A server that refuses at once; the time that a silent one gets is what `wandb_run.PATIENCE` says."""
    shutil.copytree(finished / "results", tmp_path / "results", symlinks=True)
    env = {"WANDB_MODE": "online", "WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    env |= {"DDPM_LAB_CACHE": os.environ.get("DDPM_LAB_CACHE") or str(Path.home() / ".cache/ddpm_lab")}
    monkeypatch.setattr(wandb_run, "PATIENCE", 5)
    _bench(forks, tmp_path, ["--report"], env)
    assert "W&B: it did not take everything within 5 s; the report is whole" in capfd.readouterr().err
    assert (tmp_path / "reports/small/report.html").is_file()


def test_it_is_resumed_after_it_was_killed_and_its_run_saves_however_it_is_stopped(forks: Forks, tmp_path: Path) -> None:
    many = {"seeds": [0], "curve": None, "set": [*SMALL, "train.images=64000", "train.checkpoint_every=320"]}
    command = _command(tmp_path, **many)

    def wait_for_a_checkpoint() -> None:
        known, deadline = set(tmp_path.rglob("checkpoints/*")), time.monotonic() + 120
        while not set(tmp_path.rglob("checkpoints/0*")) - known:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    process = forks.start(*command, cwd=tmp_path)
    wait_for_a_checkpoint()
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    second = forks.start(*command, cwd=tmp_path)  # at once, while the first one's run may still be saving
    assert "everything is saved" in process.communicate(timeout=60)[1], "its run has ended too, as if it had been asked to stop"
    (run,) = tmp_path.glob("results/suites/small/smoke/*")
    wait_for_a_checkpoint()
    second.terminate()
    _, said = second.communicate(timeout=60)
    assert second.returncode == 143
    assert f"resuming results/suites/small/smoke/{run.name}" in said
    assert "everything is saved" in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"experiments": ["smokey"]}, "did you mean 'smoke'"),
        ({"seeds": [1, 1]}, "seeds: one is there twice"),
        ({"factors": {"loss": "los.name"}}, "factors.loss: 'los.name' is no key"),
        ({"set": ["train.image=3"]}, "did you mean 'images'"),
        ({"budgets": "cpu"}, "known: about"),
        ({"curve": {"samplers": ["ddim"], "at": [2]}}, "curve"),
        ({"curve": {"samplers": ["ddimm"], "at": [2, 4], "n": 120}}, "did you mean 'ddim'"),
        ({"curve": {"samplers": ["ddim"], "at": [2, 4000], "n": 120}}, "4000 steps do not fit"),
        ({"metrics": ["FIDD"]}, "did you mean 'FID'"),
        ({"metrics": ["recall"]}, "metrics: recall comes first"),
        ({"set": ["seed=3"]}, "seeds are named under `seeds`"),
        ({"experiments": ["smoke", {"name": "v", "experiment": "smoke", "sett": []}]}, "known: experiment, name, set"),
        ({"experiments": ["smoke", {"name": "v", "experiment": "smoke", "set": ["evaluate.n=130"]}]}, "another evaluate.n"),
        ({"experiments": ["smoke", {"name": "v", "experiment": "smoke", "set": ["target=v", "loss=l1"]}]}, "another loss.name"),
        ({"experiments": ["smoke", {"name": "again", "experiment": "smoke"}]}, "the same levels of all"),
    ],
)
def test_bad_input_is_named_before_anything_runs(changed: dict[str, Any], said: str, tmp_path: Path, quick: Quick) -> None:
    done = quick(*_command(tmp_path, **changed), cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "small.yaml" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list((tmp_path / "results").rglob("resolved.yaml"))


@pytest.mark.parametrize("content", ["{", "[1]", '{"a": "b"}', "[" * 100_000, "\xff"])
def test_a_damaged_list_of_failures_is_named_with_its_remedy(content: str, tmp_path: Path) -> None:
    (tmp_path / "failures.json").write_text(content, encoding="latin-1")
    with pytest.raises(BadInput, match=r"failures\.json: ") as caught:
        suite.failures(tmp_path)
    assert "remove it" in str(caught.value)
    assert "\n" not in str(caught.value)
