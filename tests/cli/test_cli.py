"""Every command, as a user types it."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, Lab, Quick
from PIL import Image
from safetensors.torch import load_file
from support.forks import Forks

import ddpm_lab
from ddpm_lab.cli.main import main

COMMANDS = [
    "run",
    "sweep",
    "bench",
    "verdict",
    "verdicts",
    "check",
    "sample",
    "evaluate",
    "compare",
    "export",
    "play",
    "ema",
    "sync",
    "list",
]
TINY = ["train.images=64", "train.batch=32", "sampling.steps=2", "evaluate.n=8", "evaluate.n_during=4"]


def test_a_run_leaves_everything_in_its_folder(smoke_run: Path) -> None:
    names = {path.name for path in smoke_run.iterdir()}
    assert names >= {"resolved.yaml", "environment.json", "metrics.jsonl", "samples", "checkpoints", "ema.safetensors",
                     "raw.safetensors", "report.html", "result.json", "denoising.png", "data.json"}  # fmt: skip
    assert [file.name for file in sorted((smoke_run / "samples").iterdir())] == [
        "000000000.png", "000001600.png", "000003200.png",
    ]  # fmt: skip
    rows = [json.loads(line) for line in (smoke_run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["images"] == 3200
    assert any("FID/fashion_cnn" in row for row in rows)
    assert [row["images"] for row in rows] == sorted(row["images"] for row in rows)


def test_the_result_says_all_that_its_value_depends_on(smoke_run: Path) -> None:
    fid, kid, *_ = json.loads((smoke_run / "result.json").read_text())["metrics"]
    assert (fid["metric"], kid["metric"]) == ("FID", "KID")
    assert (fid["n"], fid["floor_n"]) == (128, 128)
    assert 0 < fid["floor"] < fid["value"]
    assert fid["generation"]["weights"] == "ema"
    assert fid["generation"]["steps"] == 10
    record = json.loads((ROOT / "registry/features/fashion_cnn.json").read_text())
    assert fid["protocol"]["extractor_hash"] == record["sha256"]
    assert fid["fingerprint"] != kid["fingerprint"]


def test_the_report_stands_alone(smoke_run: Path) -> None:
    page = (smoke_run / "report.html").read_text()
    assert page.count("<svg") == 4, "loss, FID, learning rate, norm of the gradient"
    assert page.count("data:image/png;base64,") >= 4
    assert not re.search(r'(src|href)="(?!data:|#)', page), "nothing is loaded from elsewhere"
    table = page.split("<h2>Results</h2>")[1].split("</table>")[0]
    assert table.count("10 steps, ema weights, seed 0") == 2, "once for each extractor: fashion_cnn and pixels"
    assert "N = 128" in table


def test_the_environment_is_recorded(smoke_run: Path) -> None:
    environment = json.loads((smoke_run / "environment.json").read_text())
    assert environment["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert environment["threads"] >= 1


def test_sample_writes_a_grid_and_an_npz_in_the_usual_convention(smoke_run: Path, quick: Quick, tmp_path: Path) -> None:
    done = quick("sample", smoke_run, "-n", "10", "--steps", "3", "--out", tmp_path / "x.npz")
    assert done.returncode == 0, done.stderr
    arrays = np.load(tmp_path / "x.npz")
    assert arrays["arr_0"].shape == (10, 16, 16, 1)
    assert arrays["arr_0"].dtype == np.uint8
    assert arrays["arr_1"].tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert Image.open(tmp_path / "x.png").size[0] > 100


def test_every_option_of_sample_changes_the_images(smoke_run: Path, tmp_path: Path) -> None:
    def draw(*words: str) -> np.ndarray:
        assert main(["sample", str(smoke_run), "-n", "6", "--steps", "4", *words, "--out", str(tmp_path / "x.npz")]) == 0
        return np.load(tmp_path / "x.npz")["arr_0"]

    plain = draw()
    assert np.array_equal(plain, draw())
    for words in (["--steps", "5"], ["--sampler", "ancestral"], ["--seed", "1"], ["--class", "2"], ["--guidance", "4"],
                  ["--weights", "raw"]):  # fmt: skip
        assert not np.array_equal(plain, draw(*words)), words


def test_the_same_from_python_whatever_the_batch(smoke_run: Path) -> None:
    run = ddpm_lab.load(smoke_run)
    images = run.sample(7)
    assert images.shape == (7, 1, 16, 16)
    assert images.dtype == torch.uint8
    # An image may differ by a rounding of the last bit where the matrix product chooses another kernel for another batch.
    difference = (run.sample(7, "sampling.batch=3").int() - images.int()).abs()
    assert int(difference.max()) <= 2
    assert int((run.sample(3).int() - images[:3].int()).abs().max()) <= 2
    assert not torch.equal(run.sample(7, classes=1), images)


def test_evaluate_measures_a_run_and_an_npz_alike(smoke_run: Path, quick: Quick, tmp_path: Path) -> None:
    by_run = quick("evaluate", smoke_run, "-n", "32")
    assert by_run.returncode == 0, by_run.stderr
    assert "N = 32" in by_run.stdout
    assert quick("sample", smoke_run, "-n", "32", "--out", tmp_path / "x.npz").returncode == 0
    by_npz = quick("evaluate", tmp_path / "x.npz", "--dataset", "{name: shapes, size: 16, count: 256}")
    assert by_npz.returncode == 0, by_npz.stderr
    run, npz = (
        re.findall(r"^fashion_cnn.* N = 32 .*; (\S.* weights), seed", done.stdout, re.MULTILINE) for done in (by_run, by_npz)
    )
    assert run == npz, "the images carry how they were made"
    assert "10 steps, ema weights" in run[0]


def test_two_extractors_that_ship_measure_a_run_side_by_side(smoke_run: Path, quick: Quick) -> None:
    done = quick("evaluate", smoke_run, "-n", "32", "--steps", "2", "--features", "fashion_cnn,fashion_vicreg,mnist_vicreg")
    assert done.returncode == 0, done.stderr
    for name in ("fashion_cnn", "fashion_vicreg", "mnist_vicreg"):
        assert f"{name}, not made for this data, N = 32" in done.stdout
    compared = quick("compare", smoke_run, smoke_run, "--features", "fashion_vicreg", "-n", "32")
    assert "fashion_vicreg" in compared.stdout, compared.stderr


def test_a_run_is_guided_by_another_and_by_its_own_snapshot(smoke_run: Path, quick: Quick, tmp_path: Path) -> None:
    few = ["classes=true", "train.images=640", "train.snapshots_every=320", "evaluate.features=[]"]
    assert quick("run", "smoke", *few, "--results", tmp_path / "results").returncode == 0
    run = tmp_path / "results/latest"
    plain = quick("sample", run, "-n", "4", "--out", tmp_path / "plain.npz")
    assert plain.returncode == 0, plain.stderr
    for number, guide in enumerate((smoke_run, "snapshots/000000320.safetensors")):
        guided = quick(
            "sample", run, f"sampling.guidance={{name: autoguidance, guide: {guide}, scale: 3}}", "sampling.clip=0.99",
            "-n", "4", "--out", tmp_path / f"{number}.npz",
        )  # fmt: skip
        assert guided.returncode == 0, guided.stderr
        assert not np.array_equal(np.load(tmp_path / f"{number}.npz")["arr_0"], np.load(tmp_path / "plain.npz")["arr_0"])
    refused = quick("sample", run, "train.images=5")
    assert refused.returncode == 2
    assert "only the sampling of a trained run can be changed" in refused.stderr


def test_check_says_what_a_run_takes_and_makes_nothing(quick: Quick, tmp_path: Path) -> None:
    done = quick("check", ROOT / "experiments/smoke.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("parameters", "GFLOP per image", "terminal SNR", "training    3,200 images"):
        assert words in done.stdout
    assert "name: patch_unet" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_check_warns_of_the_annotated_recipe(quick: Quick) -> None:
    few = "backbone={name: annotated_unet, width: 8, multipliers: [1, 2]}"  # the schedule's warning is what is asked for
    done = quick("check", "annotated", few, "train.batch=8", "--full")
    assert done.stdout.startswith("warning     terminal SNR 1.5"), "what was found comes first"
    found, _, experiment = done.stdout.partition("\n\n")
    assert "GFLOP" in found
    assert yaml.safe_load(experiment)["timesteps"] == 200
    assert "warning" not in quick("check", "smoke").stdout


def test_list_shows_every_part_with_its_options(lab: Lab) -> None:
    from registry.plugins import REGISTRIES

    everything = lab("list").stdout
    for registry in REGISTRIES.values():
        house = [part for part in registry if part.make.__module__.startswith("registry.")]
        assert house
        for part in house:
            assert part.summary in everything
            assert all(f"{option}: " in everything for option in part.options())
    assert "ddim" not in lab("list", "losses").stdout


def test_help_and_a_typing_error_need_no_torch() -> None:
    """All of them in one process, which would have torch from the first that needs it."""
    code = f"""if True:
        import sys
        from ddpm_lab.cli.main import main
        for words in ([], ["--help"], ["tarin"], *([name, word] for name in {COMMANDS!r} for word in ("--help", "--hepl"))):
            try:
                main(words)
            except SystemExit as stop:
                assert stop.code == (0 if words[-1:] == ["--help"] else 2), words
            assert "torch" not in sys.modules, words
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert f"  {command} " in done.stdout
        assert f"usage: ddpm-lab {command} " in done.stdout
    assert len(done.stderr.splitlines()) == 2 + len(COMMANDS)


def test_options_may_stand_among_the_overrides(quick: Quick, tmp_path: Path) -> None:
    done = quick("run", "smoke", "seed=1", "--results", tmp_path, *TINY, "evaluate.features=[]")
    assert done.returncode == 0, done.stderr
    assert "seed: 1" in (tmp_path / "latest/resolved.yaml").read_text()


LONG = ["run", "smoke", "train.images=3200", "evaluate.every=null", "evaluate.n=8"]


@pytest.fixture(scope="module")
def whole(quick: Quick, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupted."""
    done = quick(*LONG, "--results", results := tmp_path_factory.mktemp("whole"))
    assert done.returncode == 0, done.stderr
    return results / "latest"


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_saves_and_resumes_to_the_same_bits(
    signum: signal.Signals, status: int, forks: Forks, whole: Path, quick: Quick, tmp_path: Path
) -> None:
    process = forks.start(*LONG, "--results", tmp_path)
    # The first row is the picture before the first step; one with a rate comes from the training.
    while not any("learning_rate" in file.read_text() for file in tmp_path.glob("smoke/*/metrics.jsonl")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signum)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert "`--resume` continues from there" in said
    run = (tmp_path / "latest").resolve()
    assert not (run / "result.json").exists()
    again = quick(*LONG, "--results", tmp_path, "--resume")
    assert again.returncode == 0, again.stderr
    assert f"resuming {run}" in again.stderr
    assert len(list((tmp_path / "smoke").iterdir())) == 1
    for name in ("raw.safetensors", "ema.safetensors"):
        one, other = load_file(run / name), load_file(whole / name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    rows = [json.loads(line)["images"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows == [json.loads(line)["images"] for line in (whole / "metrics.jsonl").read_text().splitlines()]


def test_resume_refuses_another_experiment_and_starts_anew_where_there_is_none(quick: Quick, tmp_path: Path) -> None:
    fresh = quick("run", "smoke", *TINY, "--results", tmp_path, "--resume")
    assert fresh.returncode == 0, fresh.stderr
    assert "starting a new one" in fresh.stderr
    (tmp_path / "latest/result.json").unlink()  # as if it had been interrupted at the very end
    other = quick("run", "smoke", *TINY, "loss=l1", "--results", tmp_path, "--resume")
    assert other.returncode == 2
    assert "cannot be resumed: loss.name changed from 'l2' to 'l1'" in other.stderr
