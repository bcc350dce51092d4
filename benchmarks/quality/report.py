"""The report of quality against training time, from the runs of the lab and the images of its peers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.common.reporting import RECIPE, REPORTS, save_distances, surroundings, write_report
from benchmarks.peers import fashion_mnist
from benchmarks.quality.program import EPOCHS, MARKS, WORK, N, parts
from ddpm_lab.evaluation.accumulator import numbered
from ddpm_lab.evaluation.evaluate import evaluate_images
from ddpm_lab.evaluation.evaluator import Evaluator
from ddpm_lab.runtime.device import pick_device
from ddpm_lab.storage.measurement import plain, read_result
from ddpm_lab.storage.results_folder import with_id
from registry.choice import Choice
from registry.datasets.npz_reader import read_images

LENGTHS = (27_360, 109_440, 218_880, 437_760)  # images of the lab's runs; the rate decays over each, so each is whole


def _points() -> Iterator[dict[str, Any]]:
    """What there is: program, seconds of training, images, FID with its fingerprint."""
    evaluator = Evaluator(Choice("fashion_cnn", {}), fashion_mnist(), pick_device(None))
    for name in MARKS:
        for mark in MARKS[name]:
            files = parts(WORK / name, mark)
            if not all(file.exists() for file in files):
                continue
            images = torch.cat([read_images(file) for file in files])
            known = torch.load(WORK / name / f"mark-{mark:g}.pt", weights_only=True)
            yield _point(name, known["seconds"], known["images"], _distance(evaluator, images))
    for length in LENGTHS:
        folder = with_id(WORK, RECIPE, f"images-{length}")
        if folder is None or not folder.result.is_file():
            continue
        result = read_result(folder.result)
        yield _point("lab", result.training_seconds, length, plain(result.of_main[0]))


def _distance(evaluator: Evaluator, images: Tensor) -> dict[str, Any]:
    results = evaluate_images([evaluator], numbered(images.split(500)), len(images), {})
    return plain(results[0])


def _point(name: str, seconds: float, images: int, result: dict[str, Any]) -> dict[str, Any]:
    kept = {key: result[key] for key in ("n", "floor", "fingerprint", "protocol")}
    return {"program": name, "seconds": seconds, "images": images, "fid": result["value"], **kept}


def report() -> None:
    """Write what there is so far."""
    points = list(_points())
    if not points:
        return
    if len({point["fingerprint"] for point in points}) != 1:
        raise SystemExit("these values were not evaluated by one protocol; remove results/bench/quality and start again")
    about = {name: {"title": peers.kind(name).title, "settings": peers.kind(name).settings} for name in ("lab", *MARKS)}
    found = {
        "environment": surroundings(), "programs": about, "points": points, "sooner": _sooner(points),
        "date": time.strftime("%Y-%m-%d"), "n": N,
    }  # fmt: skip
    write_report("quality", found)
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
    save_distances(axis, points[0]["floor"], "seconds of training", N, REPORTS / "quality/quality.png")
