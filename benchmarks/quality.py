"""FID against training time: the default recipe and each peer's own, on the same cores and data, judged by one protocol.

make bench-quality                        all programs, hours on two cores; go on with the same command where it was stopped
make bench-quality PROGRAMS="lab annotated"     some of them; the report has what there is so far

Writes benchmarks/reports/quality/{report.json,report.md,quality.png}. What it goes on from lies in results/bench/quality.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import peers
import torch
from peers import garments
from reporting import RECIPE, save_distances, surroundings, write_report
from torch import Tensor

from ddpm_lab.config.part import Choice
from ddpm_lab.evaluation.evaluator import Evaluator, evaluate_images, numbered
from ddpm_lab.runtime.device import pick_device
from ddpm_lab.runtime.host import pick_threads, settle
from ddpm_lab.storage.files import write_whole
from ddpm_lab.storage.images import write_images
from ddpm_lab.storage.run_folder import with_id
from registry.datasets.npz_reader import read_images

WORK = Path("results/bench/quality")
REPORT = Path("benchmarks/reports/quality")
LENGTHS = (27_360, 109_440, 218_880, 437_760)  # images of the lab's runs; the rate decays over each, so each is whole
EPOCHS = 300_000  # images: what the annotated recipe was published with
# Seconds of training at which images are drawn, the last first; inf is the end of those epochs.
MARKS = {
    "lucidrains": (600.0, 300.0),
    "smalldiffusion": (600.0, 300.0),
    "diffusers": (600.0, 300.0),
    "annotated": (math.inf, 600.0),
}
N, DRAWN = 2000, 200  # images for a value, images in a file
KEPT_EVERY = 60.0  # seconds of training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("programs", nargs="*", default=["lab", *MARKS], metavar="PROGRAM")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--draw", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train or arguments.draw:
        name, work = arguments.programs[0], _train if arguments.train else partial(_draw, mark=arguments.draw)
        return work(name)
    for name in arguments.programs:
        if name == "lab":
            for images in LENGTHS:
                _run_lab(images)
        else:
            _alone(name, "--train")
    for turn in range(2):
        for name in arguments.programs:
            if name != "lab":
                _alone(name, "--draw", str(MARKS[name][turn]))
            _report()
    return None


def _alone(*words: str) -> None:
    """In a process of its own: no program is to change the threads or the memory of another."""
    subprocess.run([sys.executable, os.fspath(Path(__file__)), *words], check=True)


def _run_lab(images: int) -> None:
    words = ["run", RECIPE, f"train.images={images}", "evaluate.every=null", "train.samples_every=null", "track=none"]
    place = ["--id", f"images-{images}", "--results", os.fspath(WORK)]
    subprocess.run([sys.executable, "-m", "ddpm_lab", *words, *place], check=True)


def _train(name: str) -> None:
    """Train a program to each of its marks; go on with what was kept."""
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    kind, kept = peers.kind(name), folder / "state.pt"
    torch.manual_seed(0)
    program = kind()
    seconds, images = 0.0, 0
    if kept.exists():
        known = torch.load(kept, weights_only=True)
        seconds, images = known["seconds"], known["images"]
        program.load_state(known["program"])
        torch.manual_seed(images)  # the data of an epoch that was left comes in another order; no image is special
    for mark in sorted(MARKS[name]):
        file = folder / f"mark-{mark:g}.pt"
        while not file.exists():
            start, before, done = time.perf_counter(), seconds, False
            while not done and seconds < before + KEPT_EVERY:
                program.train(1)
                images += kind.batch
                seconds = before + time.perf_counter() - start
                done = images >= EPOCHS if mark == math.inf else seconds >= mark
            print(f"{name}: {seconds:.0f} s, {images:,} images", flush=True)
            state = {"seconds": seconds, "images": images, "program": program.state()}
            for path in (kept, *([file] if done else ())):
                write_whole(path, partial(torch.save, state))


def _draw(name: str, mark: float) -> None:
    """The images of a mark, so many to a file; what is there is not drawn again."""
    folder = WORK / name
    missing = [(number, file) for number, file in enumerate(_parts(folder, mark)) if not file.exists()]
    if not missing:
        return
    settle(pick_device(None), pick_threads("auto"))  # the memory that it keeps changes no image, and halves the time
    program = peers.kind(name)()
    program.load_state(torch.load(folder / f"mark-{mark:g}.pt", weights_only=True)["program"])
    for number, file in missing:
        torch.manual_seed(1000 + number)
        write_images(file, program.draw(DRAWN, program.steps), None, {"source": name, "steps": program.steps})
        print(f"{name}, mark {mark:g}: {(number + 1) * DRAWN:,} of {N:,} images", flush=True)


def _parts(folder: Path, mark: float) -> list[Path]:
    """The files that hold the images of a mark."""
    return [folder / f"mark-{mark:g}-{number:02d}.npz" for number in range(N // DRAWN)]


def _points() -> Iterator[dict[str, Any]]:
    """What there is: program, seconds of training, images, FID with its fingerprint."""
    evaluator = Evaluator(Choice("fashion_cnn", {}), garments(), pick_device(None))
    for name in MARKS:
        for mark in MARKS[name]:
            parts = _parts(WORK / name, mark)
            if not all(part.exists() for part in parts):
                continue
            images = torch.cat([read_images(part) for part in parts])
            known = torch.load(WORK / name / f"mark-{mark:g}.pt", weights_only=True)
            yield _point(name, known["seconds"], known["images"], _judged(evaluator, images))
    for length in LENGTHS:
        folder = with_id(WORK, RECIPE, f"images-{length}")
        if folder is None or not folder.result.is_file():
            continue
        result = json.loads(folder.result.read_text())
        yield _point("lab", result["training_seconds"], length, next(m for m in result["metrics"] if m["metric"] == "FID"))


def _judged(evaluator: Evaluator, images: Tensor) -> dict[str, Any]:
    results = evaluate_images([evaluator], numbered(images.split(500)), len(images), {})
    return next(result for result in results if result["metric"] == "FID")


def _point(name: str, seconds: float, images: int, result: dict[str, Any]) -> dict[str, Any]:
    kept = {key: result[key] for key in ("n", "floor", "fingerprint", "protocol")}
    return {"program": name, "seconds": seconds, "images": images, "fid": result["value"], **kept}


def _report() -> None:
    points = list(_points())
    if not points:
        return
    if len({point["fingerprint"] for point in points}) != 1:
        raise SystemExit("these values were not judged by one protocol; remove results/bench/quality and begin again")
    about = {name: {"title": peers.kind(name).title, "settings": peers.kind(name).settings} for name in ("lab", *MARKS)}
    found = {
        "environment": surroundings(), "programs": about, "points": points, "sooner": _sooner(points),
        "date": time.strftime("%Y-%m-%d"), "n": N,
    }  # fmt: skip
    write_report(REPORT, "quality.md.jinja", found)
    _plot(points, about)


def _sooner(points: list[dict[str, Any]]) -> dict[str, Any] | None:
    """How much sooner the lab has the FID that the annotated recipe ends with: the first whole run that is as good."""
    ended = [point for point in points if point["program"] == "annotated" and point["images"] >= EPOCHS]
    as_good = [point for point in points if ended and point["program"] == "lab" and point["fid"] <= ended[0]["fid"]]
    if not as_good:
        return None
    first = min(as_good, key=lambda point: point["seconds"])
    return {"theirs": ended[0], "ours": first, "ratio": ended[0]["seconds"] / first["seconds"]}


def _plot(points: list[dict[str, Any]], about: dict[str, dict[str, str]]) -> None:
    _, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name in about:
        own = sorted((point for point in points if point["program"] == name), key=lambda point: point["seconds"])
        if own:
            style = {"linewidth": 2.5, "color": "#2f6f9f"} if name == "lab" else {}
            axis.plot([p["seconds"] for p in own], [p["fid"] for p in own], "o-", label=about[name]["title"], **style)
    save_distances(axis, points[0]["floor"], "seconds of training", N, REPORT / "quality.png")


if __name__ == "__main__":
    main()
