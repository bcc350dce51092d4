"""What may be ranked, and what must not."""

import json
import math
import statistics
from pathlib import Path

import pytest
from conftest import Quick
from scipy import stats

PROTOCOL = {"metric": "FID", "extractor": "fashion_cnn", "reference": "shapes/train, 100 images", "n": 2000, "resize": "none"}


def _record(value: float, fingerprint: str = "aaaa", **protocol: object) -> dict[str, object]:
    whole = PROTOCOL | protocol
    made = {"sampler": "ddim", "steps": 20, "weights": "ema"}
    return {"metric": whole["metric"], "extractor": whole["extractor"], "n": whole["n"], "value": value, "floor": 0.1,
            "fingerprint": fingerprint, "protocol": whole, "generation": made}  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """a and b measured alike, b better; c at another N; d not at all; e is no run; x.npz as a and b; latest is b."""
    for name, records in (("a", [_record(2.0)]), ("b", [_record(1.0)]), ("c", [_record(0.5, "bbbb", n=500)]), ("d", [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "resolved.yaml").touch()
        (tmp_path / name / "result.json").write_text(json.dumps({"metrics": records}))
    (tmp_path / "e").mkdir()
    (tmp_path / "latest").symlink_to("b")
    (tmp_path / "x.npz").touch()
    (tmp_path / "x.evaluation.json").write_text(json.dumps([_record(1.5) | {"generation": {"source": "x.npz"}}]))
    return tmp_path


def test_the_best_comes_first_with_what_made_it(quick: Quick, runs: Path) -> None:
    done = quick("compare", "a", "b", "x.npz", cwd=runs)
    assert done.returncode == 0, done.stderr
    _, *rows, protocol = done.stdout.splitlines()
    assert [row.split()[0] + row.split()[-1] for row in rows] == ["1b", "2x.npz", "3a"]
    assert "unknown" in rows[1]
    assert "N = 2,000" in protocol
    assert "floor 0.1" in protocol


def test_of_all_that_a_pattern_names_only_what_was_evaluated_is_ranked_and_the_rest_is_named(quick: Quick, runs: Path) -> None:
    done = quick("compare", "latest", "latest/result.json", "a", "b", "d", "e", "x.npz", cwd=runs)
    assert done.returncode == 0, done.stderr
    _, *rows, _ = done.stdout.splitlines()
    assert [row.split()[-1] for row in rows] == ["b", "x.npz", "a"], "the link is no second run"
    assert "left out: d: nothing was measured there" in done.stderr
    assert "left out: no run at 'latest/result.json': it holds no resolved.yaml, and 1 more such names" in done.stderr


def test_a_run_without_that_metric_is_left_out_and_named(quick: Quick, runs: Path) -> None:
    (runs / "d/result.json").write_text(json.dumps({"metrics": [_record(9.0, metric="KID")]}))
    done = quick("compare", "a", "b", "d", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    assert "d has no FID" in done.stderr


def test_other_protocols_are_refused_and_the_field_is_named(quick: Quick, runs: Path) -> None:
    done = quick("compare", "a", "b", "c", cwd=runs)
    assert done.returncode == 2
    assert "a and c were not measured alike (n: 2000 against 500)" in done.stderr


def test_of_several_measurements_the_shared_one_counts(quick: Quick, runs: Path) -> None:
    (runs / "c/evaluation-n2000-1.json").write_text(json.dumps([_record(3.0)]))
    done = quick("compare", "a", "b", "c", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[3].split()[:2] == ["3", "3"]


def test_a_choice_is_asked_for_where_two_protocols_are_shared(quick: Quick, runs: Path) -> None:
    for name in "ab":
        (runs / name / "evaluation-n500-1.json").write_text(json.dumps([_record(9.0, "bbbb", n=500)]))
    done = quick("compare", "a", "b", cwd=runs)
    assert done.returncode == 2
    assert "-n" in done.stderr
    assert quick("compare", "a", "b", "-n", "500", cwd=runs).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["d"], "d: nothing was measured there"),
        (["e"], "no run at 'e': it holds no resolved.yaml"),
        (["a", "nowhere"], "no run at 'nowhere'"),
        (["a", "no.npz"], "no.npz: no such file"),
        (["a", "b", "--metric", "FIDD"], "did you mean 'FID'"),
        (["a", "b", "--features", "inception_v3"], "it has fashion_cnn, N = 2000"),
    ],
)
def test_what_is_missing_is_named(words: list[str], said: str, quick: Quick, runs: Path) -> None:
    done = quick("compare", *words, cwd=runs)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_damaged_file_is_named(quick: Quick, runs: Path) -> None:
    odd = _record(1.0)
    odd["generation"] = {"sampler": "ddim", "random_streams": {}}
    for record in ({"metric": "FID", "value": "low"}, odd):
        (runs / "a/result.json").write_text(json.dumps({"metrics": [record]}))
        done = quick("compare", "a", "b", cwd=runs)
        assert done.returncode == 2
        assert "a/result.json: not a list of measurements" in done.stderr


RECIPE = {"loss": {"name": "l2"}, "sampling": {"steps": 20}, "track": {"name": "none"}}


def _of_seed(folder: Path, seed: int, value: float, **changed: object) -> str:
    (folder / (name := f"s{len(list(folder.iterdir()))}")).mkdir()
    (folder / name / "resolved.yaml").write_text(json.dumps(RECIPE | {"seed": seed} | changed))
    record = _record(value) | {"generation": {"sampler": "ddim", "steps": 20, "weights": "ema", "seed": seed}}
    (folder / name / "result.json").write_text(json.dumps({"metrics": [record]}))
    return name


def test_runs_that_differ_in_the_seed_alone_are_one_row_with_an_interval_over_seeds(quick: Quick, tmp_path: Path) -> None:
    values = (1.0, 1.2, 1.1)
    names = [_of_seed(tmp_path, seed, value, track={"name": "wandb"}) for seed, value in enumerate(values)]
    near = _of_seed(tmp_path, 0, 1.16, loss={"name": "l1"})
    far = [_of_seed(tmp_path, 0, 3.0, loss={"name": "huber"}) for _ in range(2)]  # the same seed twice says nothing of seeds
    done = quick("compare", *far, near, *names, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    logs = [math.log(value) for value in values]
    mean, sd = statistics.fmean(logs), statistics.stdev(logs)
    assert found["seed_noise"] == {"sd": pytest.approx(sd), "freedom": 2}
    assert [row["runs"] for row in found["rows"]] == [names, [near], [far[0]], [far[1]]]
    first = found["rows"][0]
    assert first["value"] == pytest.approx(math.exp(mean))
    low, high = stats.t.interval(0.95, 2, loc=mean, scale=sd / math.sqrt(3))
    assert first["interval"] == pytest.approx([math.exp(low), math.exp(high)])
    assert [(row["rank"], row["tied"], row["over"]) for row in found["rows"]] == [
        (1, True, "3 seeds"), (1, True, "images, not seeds"), (3, True, "images, not seeds"), (3, True, "images, not seeds"),
    ]  # fmt: skip
    head, *rows, noise, _ = quick("compare", *far, near, *names, cwd=tmp_path).stdout.splitlines()
    assert head.split() == ["FID", "95", "%", "over", "made", "by", "run"]
    assert [row.split()[0] for row in rows] == ["1=", "1=", "3=", "3="]
    assert rows[0].endswith(", ".join(names))
    assert noise == (
        f"seeds move FID by {sd:.2g} in its logarithm (one standard deviation, 2 degrees of freedom); ranks with `=` are ties:"
        " seeds alone make such differences"
    )


def test_another_way_of_sampling_or_another_plugin_is_no_other_seed(quick: Quick, tmp_path: Path) -> None:
    one, other, third = (_of_seed(tmp_path, seed, 1.0 + seed) for seed in range(3))
    record = json.loads((tmp_path / other / "result.json").read_text())
    record["metrics"][0]["generation"]["steps"] = 50
    (tmp_path / other / "result.json").write_text(json.dumps(record))
    (tmp_path / third / "plugins").mkdir()
    (tmp_path / third / "plugins/a.py").write_text("x = 1")
    rows = json.loads(quick("compare", one, other, third, "--json", cwd=tmp_path).stdout)["rows"]
    assert [row["runs"] for row in rows] == [[one], [other], [third]]
    assert not any(row["tied"] for row in rows)


def test_values_that_have_no_logarithm_are_ranked_one_by_one(quick: Quick, tmp_path: Path) -> None:
    names = [_of_seed(tmp_path, seed, value) for seed, value in enumerate((0.1, -0.1))]
    found = json.loads(quick("compare", *names, "--json", cwd=tmp_path).stdout)
    assert [row["value"] for row in found["rows"]] == [-0.1, 0.1]
    assert found["seed_noise"] is None
