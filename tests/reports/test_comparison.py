"""What may be ranked, and what must not."""

import json
from pathlib import Path

import pytest
from conftest import Quick

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
