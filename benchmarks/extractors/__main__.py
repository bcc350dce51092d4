"""The extractors that ship with the lab, side by side: floors, planted faults, time, and the ranks of sampled images.

    python -m benchmarks.extractors x.npz y.npz ...     images of runs on Fashion-MNIST, as `make sample` writes them

Writes benchmarks/reports/extractors/report.json and the tables of docs/evaluation.md. Minutes on one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from scipy.stats import kendalltau, spearmanr
from torch import Tensor

from benchmarks.common import command
from benchmarks.common.reporting import REPORTS, last_report, surroundings, write_table
from benchmarks.extractors.faults import FAULTS, sets
from ddpm_lab.evaluation.accumulator import numbered
from ddpm_lab.evaluation.evaluate import evaluate_images, evaluators
from ddpm_lab.evaluation.evaluator import BATCH, Evaluator
from ddpm_lab.runtime.redaction import discreet
from ddpm_lab.storage.json_text import write_json
from registry.choice import Choice
from registry.datasets import DATASETS, ImageSet
from registry.datasets.npz_reader import read_images
from registry.errors import BadInput

N = 2000
REPORT = REPORTS / "extractors/report.json"
PAGE = Path("docs/evaluation.md")
EXTRACTORS = {"fashion_mnist": ("fashion_cnn", "fashion_vicreg"), "mnist": ("mnist_vicreg", "fashion_cnn")}
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=Path, help="uint8 arr_0 [N, 28, 28, 1], two files or more, all of the same N")
    parser.add_argument("--data", choices=EXTRACTORS, action="append", help="only this data set; what is known of others stays")
    arguments = parser.parse_args()
    found: dict[str, Any] = {"faults": {}, "seconds": {}, "floors": {}, "sampled": None}
    found |= last_report("extractors") | {"n": N, "machine": surroundings(CPU)}
    for name in arguments.data or EXTRACTORS:
        ready = _ready(DATASETS.configure(name, {})(), EXTRACTORS[name])
        found["floors"][name] = {one.name: one.floor(N)[0]["FID"].value for one in ready}
        found["faults"][name] = _faults(ready)
        found["seconds"][name] = {one.name: _seconds(one) for one in ready}
        if name == "fashion_mnist" and arguments.images:
            found["sampled"] = _sampled(ready, arguments.images)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    write_json(REPORT, discreet(found))
    write_table(PAGE, "faults", _fault_table(found))
    if found["sampled"]:
        write_table(PAGE, "agreement", _rank_table(found["sampled"]))


def _ready(data: ImageSet, names: tuple[str, ...]) -> list[Evaluator]:
    ready, missing = evaluators([Choice(name, {}) for name in names], data, CPU, frozenset({"FID"}))
    if missing:
        raise BadInput(f"{missing[0].extractor} cannot be had")
    return ready


def _distances(ready: list[Evaluator], images: Tensor) -> dict[str, tuple[float, tuple[float, float]]]:
    """FID and its 95 % interval, for each extractor."""
    records = evaluate_images(ready, numbered(images.split(BATCH)), len(images), {})
    return {one.extractor: (one.value, one.interval) for one in records if one.metric == "FID"}  # type: ignore[misc]


def _faults(ready: list[Evaluator]) -> dict[str, dict[str, float]]:
    """FID of held-out images, as they are and with each fault."""
    given = sets(ready[0].data, N)
    planted = {"none": given.real, **{name: fault(given) for name, fault in FAULTS.items()}}
    return {name: {one: fid for one, (fid, _) in _distances(ready, images).items()} for name, images in planted.items()}


def _seconds(evaluator: Evaluator) -> float:
    """How long the features of N images take: the least of three times."""
    images, taken = evaluator.data.test.rows(torch.arange(N)), []
    for _ in range(3):
        start = time.perf_counter()
        for part in images.split(BATCH):
            evaluator.features(part)
        taken.append(time.perf_counter() - start)
    return min(taken)


def _sampled(ready: list[Evaluator], files: list[Path]) -> dict[str, Any]:
    """Ranks of the files' images by both extractors."""
    if len(files) < 2:
        raise BadInput("one set of images has no rank; name two files or more")
    images = [read_images(file) for file in files]
    if len({len(one) for one in images}) > 1:
        raise BadInput(f"the files hold {', '.join(str(len(one)) for one in images)} images; their FIDs cannot be ranked")
    rows = [{"images": file.stem, "FID": _distances(ready, one)} for file, one in zip(files, images, strict=True)]
    columns = [[row["FID"][one.name][0] for row in rows] for one in ready]  # type: ignore[index]
    tau, rho = (float(statistic(*columns).statistic) for statistic in (kendalltau, spearmanr))
    return {"n": len(images[0]), "floors": {one.name: one.floor(len(images[0]))[0]["FID"].value for one in ready},
            "rows": rows, "kendall": tau, "spearman": rho}  # fmt: skip


def _fault_table(found: dict[str, Any]) -> str:
    """FIDs over the floor's: how many times as far as real images."""
    columns = [(data, name) for data, names in EXTRACTORS.items() if data in found["faults"] for name in names]
    heads = [f"{data}, `{name}`" for data, name in columns]
    lines = [f"| held-out images, N = {found['n']:,} | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(columns)]
    for fault in found["faults"][columns[0][0]]:
        values = [found["faults"][data][fault][name] for data, name in columns]
        floors = [found["faults"][data]["none"][name] for data, name in columns]
        cells = [
            f"{value:.3f}" if fault == "none" else f"x {value / floor:.1f}" for value, floor in zip(values, floors, strict=True)
        ]
        lines.append(f"| {'as they are: FID' if fault == 'none' else fault} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _rank_table(sampled: dict[str, Any]) -> str:
    names = list(sampled["floors"])
    ranks = {
        name: {fid: rank for rank, fid in enumerate(sorted(row["FID"][name][0] for row in sampled["rows"]), 1)}
        for name in names
    }  # fmt: skip
    lines = [f"| images, N = {sampled['n']:,} | {' | '.join(f'`{name}`, 95 % | rank' for name in names)} |"]
    lines.append("| --- |" + " --- | ---: |" * len(names))
    for row in sorted(sampled["rows"], key=lambda row: row["FID"][names[0]][0]):
        cells = []
        for name in names:
            fid, (low, high) = row["FID"][name]
            cells.append(f"{fid:.2f} ({low:.2f} to {high:.2f}) | {ranks[name][fid]}")
        lines.append(f"| {row['images'].replace('-', ', ')} | {' | '.join(cells)} |")
    floors = " | ".join(f"{sampled['floors'][name]:.2f} |" for name in names)
    lines.append(f"| held-out images | {floors} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    command.execute(main)
