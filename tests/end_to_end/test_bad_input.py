"""Bad input: one line on standard error, exit status 2, and nothing created."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Lab, Quick

Words = list[str]
Prepare = Callable[[Path], Words]


def _file(name: str, text: str) -> Prepare:
    def prepare(folder: Path) -> Words:
        (folder / name).write_text(text)
        return ["run", str(folder / name)]

    return prepare


def _circle(folder: Path) -> Words:
    (folder / "a.yaml").write_text("extends: b\n")
    (folder / "b.yaml").write_text("extends: a\n")
    return ["run", str(folder / "a.yaml")]


def _raising_plugin(folder: Path) -> Words:
    (folder / "broken.py").write_text("x = 1\nraise RuntimeError('of its own')\n")
    (folder / "p.yaml").write_text(f"extends: {ROOT}/experiments/smoke.yaml\nplugins: [broken.py]\n")
    return ["run", str(folder / "p.yaml")]


def _not_a_folder(folder: Path) -> Words:
    (folder / "file").write_text("")
    return ["run", f"{ROOT}/experiments/smoke.yaml", "--results", str(folder / "file")]


def _no_weights(folder: Path) -> Words:
    run = folder / "results/smoke/1"
    run.mkdir(parents=True)
    (run / "resolved.yaml").write_text((ROOT / "experiments/smoke.yaml").read_text().replace("extends: base", WHOLE))
    (run / "data.json").write_text(
        '{"name": "shapes", "image_shape": [1, 16, 16], "class_names": null, "std": 0.5, "train_hash": ""}'
    )
    return ["sample", str(run)]


def _odd_npz(folder: Path) -> Words:
    np.savez(folder / "x.npz", np.zeros((4, 28, 28, 1), np.float32))
    return ["evaluate", str(folder / "x.npz")]


def _pickled_npz(folder: Path) -> Words:
    np.savez(folder / "x.npz", np.array([{"a": 1}], dtype=object))
    return ["evaluate", str(folder / "x.npz")]


def _small_npz(folder: Path) -> Words:
    np.savez(folder / "x.npz", np.zeros((4, 28, 28, 1), np.uint8))
    return ["evaluate", str(folder / "x.npz")]


SMOKE = f"{ROOT}/experiments/smoke.yaml"
WHOLE = "schedule: cosine\ntarget: v\nloss: l2"


def _run(*words: str) -> Prepare:
    return lambda folder: ["run", SMOKE, *words]


CASES: dict[str, tuple[Prepare, Words]] = {
    "unknown experiment": (lambda folder: ["run", "cosin_l1"], ["cosin_l1"]),
    "unknown part": (
        _run("loss.name=hubr"),
        ["loss.name: no loss named 'hubr'; did you mean 'huber'? known: huber, l1, l2, log_cosh, pseudo_huber"],
    ),
    "unknown option": (_run("loss=huber", "loss.dleta=2"), ["loss.dleta", "did you mean 'delta'?"]),
    "wrong type": (_run("train.rate.peak=fast"), ["train.rate.peak", "got 'fast'"]),
    "duplicate key": (_file("d.yaml", "seed: 1\nseed: 2\n"), ["d.yaml", "duplicate key 'seed'"]),
    "not a mapping": (_file("l.yaml", "- 1\n"), ["l.yaml", "a mapping of keys to values was expected"]),
    "extends circle": (_circle, ["a.yaml", "extends", "circle"]),
    "missing plugin": (_run("plugins=[nowhere.py]"), ["plugins", "no plugin file", "nowhere.py"]),
    "plugin that raises": (_raising_plugin, ["broken.py", "line 2", "of its own"]),
    "T = 0": (_run("timesteps=0"), ["timesteps", "greater than 0, got 0"]),
    "negative learning rate": (_run("train.rate.peak=-1e-3"), ["train.rate.peak", "got -0.001"]),
    "NaN": (_run("train.rate.peak=.nan"), ["train.rate.peak", "finite number, got nan"]),
    "batch larger than the data": (_run("train.batch=2000"), ["train.batch", "2000", "256"]),
    "an image that cannot be halved": (_run("dataset.size=18"), ["backbone", "18 x 18", "multiples of 4", "16 or 20"]),
    "guidance without classes": (_run("sampling.guidance.scale=3"), ["sampling.guidance", "classes: true"]),
    "no such run": (lambda folder: ["sample", str(folder / "nowhere")], ["no run at", "nowhere"]),
    "a run without weights": (_no_weights, ["ema.safetensors", "no such weights"]),
    "results cannot be written": (_not_a_folder, ["--results", "cannot be written"]),
    "out cannot be written": (
        lambda folder: ["sample", "RUN", "--out", str(folder / "no/such/x.npz")],
        ["x.npz", "cannot be written"],
    ),
    "a class that is not there": (lambda folder: ["sample", "RUN", "--class", "3"], ["class 3", "0 to 2"]),
    "too many steps": (lambda folder: ["sample", "RUN", "--steps", "2000"], ["2000 steps", "1000"]),
    "unknown sampler": (lambda folder: ["sample", "RUN", "--sampler", "dim"], ["did you mean 'ddim'"]),
    "a reference that is not there": (
        lambda folder: [*_small_npz(folder), "--dataset", "shaps"],
        ["--dataset", "did you mean 'shapes'"],
    ),
    "a reference with a wrong option": (
        lambda folder: [*_small_npz(folder), "--dataset", "{name: shapes, sise: 3}"],
        ["--dataset", "did you mean 'size'"],
    ),
    "an option that cannot apply": (lambda folder: [*_small_npz(folder), "--steps", "5"], ["--steps", "exist already"]),
    "npz of floats": (_odd_npz, ["x.npz", "float32", "uint8"]),
    "npz with objects": (_pickled_npz, ["x.npz", "arr_0 is object"]),
    "npz with too few images": (lambda folder: [*_small_npz(folder), "-n", "5"], ["x.npz", "holds 4 images, fewer than the 5"]),
    "no such npz": (lambda folder: ["evaluate", str(folder / "no.npz")], ["no.npz"]),
    "unknown command": (lambda folder: ["rnu"], ["rnu"]),
    "a key of 5,000 pieces": (_run(".".join(["a"] * 5000) + "=1"), ["command line: a.a.a", "a key of 5,000 pieces"]),
    "a zero byte in a folder": (_run('dataset={name: image_folder, folder: "a\\0b"}'), ["a\\x00b", "no such folder"]),
    "a zero byte in an .npz": (_run('dataset={name: npz, file: "a\\0b"}'), ["a\\x00b", "zero byte"]),
    "a zero byte in IDX": (_run('dataset={name: idx, images: "a\\0b"}'), ["a\\x00b", "zero byte"]),
    "a zero byte in a guide": (
        _run('sampling.guidance={name: autoguidance, guide: "a\\0b"}', "classes=true"),
        ["no run at 'a\\x00b'"],
    ),
    "a zero byte in a plugin": (_run('plugins=["a\\0b"]'), ["plugins", "a\\x00b"]),
    "a zero byte in extends": (_file("z.yaml", 'extends: "a\\0b"\n'), ["z.yaml", "extends", "a\\x00b"]),
    "unknown budget": (_run("--budget", "gpus"), ["no budget named 'gpus'"]),
    "unknown category": (lambda folder: ["list", "loses"], ["did you mean 'losses'"]),
    "unknown device": (_run("--device", "tpu9x"), ["--device", "tpu9x"]),
    "N that is no number": (lambda folder: ["sample", "RUN", "-n", "0"], ["0 is not a positive number"]),
}


@pytest.mark.parametrize("case", CASES)
def test_it_costs_one_line_and_nothing_else(case: str, quick: Quick, tmp_path: Path, smoke_run: Path) -> None:
    prepare, expected = CASES[case]
    words = [str(smoke_run) if word == "RUN" else word for word in prepare(tmp_path)]
    before = sorted([*tmp_path.rglob("*"), *smoke_run.rglob("*")])
    done = quick(*words, cwd=tmp_path)
    line = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert line.startswith("ddpm-lab")
    for word in expected:
        assert word in line
    # A line that says where the data came from may stand above the error; nothing else does.
    assert [other for other in done.stderr.strip().splitlines()[:-1] if not other.startswith("data: ")] == []
    assert sorted([*tmp_path.rglob("*"), *smoke_run.rglob("*")]) == before


def test_debug_shows_the_traceback(lab: Lab) -> None:
    done = lab("run", "smoke", "loss=hubr", "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
