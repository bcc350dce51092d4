"""How fast the lab is: against its own bare loop, the published recipe, and its peers, in turn on one machine.

make bench-speed                                about a quarter of an hour on two cores
make bench-speed PARTS="start evaluation"       measure these anew, and keep the rest of the report

Writes benchmarks/reports/speed/{report.json,report.md,speed.png}.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from contender import Contender
from fidelity import fidelity_distance
from measure import convolution, exponent, in_turn, peak_of, product, rate, ratio, spread
from peers import garments
from reporting import surroundings, write_report

from ddpm_lab.config.part import Choice
from ddpm_lab.evaluation.evaluator import BATCH, Evaluator, measure, numbered
from ddpm_lab.evaluation.scores import frechet
from ddpm_lab.runtime.device import pick_device
from ddpm_lab.storage.images import write_images
from registry.datasets.npz_reader import read_images

REPORT = Path("benchmarks/reports/speed")
ROUNDS = 5
# Steps for each turn: about ten seconds, but for the lab and its bare loop, whose turn has to hold a whole checkpoint.
STEPS = {
    "lab": 480, "bare": 480, "lab_annotated": 24, "annotated": 6, "lucidrains": 16, "diffusers": 24, "smalldiffusion": 3,
}  # fmt: skip
DRAWN, EVALUATIONS = 64, 20  # images, network evaluations each
JUDGED = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)} (default: all)")
    parts = parser.parse_args().parts
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"PARTS: no part '{unknown[0]}'; known: {', '.join(PARTS)}")
    device = pick_device(None)
    environment = surroundings(device)
    found = _kept(environment["hardware"]) if parts else {"growth": {}, "measured": {}}
    found["environment"] = environment
    for part in parts or PARTS:
        PARTS[part](found, device)
        found["measured"][part] = {"date": time.strftime("%Y-%m-%d"), "commit": environment["commit"]}
    write_report(REPORT, "speed.md.jinja", found)
    _plot(found)


def _kept(hardware: str) -> dict[str, Any]:
    """The last report, to measure parts of it anew; ratios are between what was measured in one part."""
    file = REPORT / "report.json"
    known: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    if known.get("environment", {}).get("hardware") != hardware:
        raise SystemExit(f"{file}: not a report of this machine; measure all parts first")
    return known


def _seconds_of(*command: str) -> Callable[[], float]:
    return lambda: 1 / rate(partial(subprocess.run, command, check=True, capture_output=True), 1)()


def _start(found: dict[str, Any], _: torch.device) -> None:
    """Seconds of whole processes."""
    lab = os.fspath(Path(sys.executable).with_name("ddpm-lab"))
    tasks = {
        "import torch": _seconds_of(sys.executable, "-c", "import torch"),
        "import ddpm_lab": _seconds_of(sys.executable, "-c", "import ddpm_lab"),
        "ddpm-lab list": _seconds_of(lab, "list"),
    }
    found["import"] = {name: spread(values) for name, values in in_turn(tasks, ROUNDS).items()}


def _ceilings(device: torch.device) -> dict[str, Any]:
    """GFLOP/s of a convolution and a matrix product, forward and backward."""
    tasks = {}
    for precision in ("bf16", "fp32"):
        for name, make in (("convolution", convolution), ("product", product)):
            work, operations = make(precision, device)
            tasks[f"{name}, {precision}"] = rate(partial(_repeat, work, 5), int(5 * operations / 1e9))
    return {name: spread(values) for name, values in in_turn(tasks, ROUNDS).items()}


def _repeat(work: Callable[[], None], times: int) -> None:
    for _ in range(times):
        work()


def _programs() -> tuple[dict[str, Any], dict[str, Any]]:
    """Training and drawing, all programs in turn, each in its own process; then how the lab's time grows."""
    contenders = {name: Contender(name) for name in STEPS}

    def training(name: str) -> float:
        done = contenders[name]("train", STEPS[name])
        return STEPS[name] * contenders[name].about["batch"] / done["seconds"]

    def drawing(name: str) -> float:
        return DRAWN / contenders[name]("draw", DRAWN, EVALUATIONS)["seconds"]

    rates = in_turn({name: partial(training, name) for name in contenders}, ROUNDS)
    drawn = in_turn({name: partial(drawing, name) for name in contenders if name != "bare"}, ROUNDS)
    growth = _growth(contenders["lab"])
    programs = {
        name: contender.about | {
            "training": spread(rates[name]) | {"values": rates[name]},
            "drawing": spread(drawn[name]) if name in drawn else None,
            "gigabytes": contender("memory")["gigabytes"],
        }
        for name, contender in contenders.items()
    }  # fmt: skip
    for contender in contenders.values():
        contender.close()
    return programs, growth


def _growth(lab: Contender) -> dict[str, Any]:
    """Seconds against the amount, and the exponent that fits."""

    def seconds(order: str, *numbers: int) -> Callable[[], float]:
        return lambda: lab(order, *numbers)["seconds"]

    images = {steps * 64: seconds("train", steps) for steps in (30, 60, 120, 240)}
    counts = {count: seconds("draw", count, 10) for count in (128, 256, 512, 1024)}
    steps = {number: seconds("draw", 256, number) for number in (10, 20, 40, 80)}
    return {
        "training against images": _fitted(images),
        "drawing against N": _fitted(counts),
        "drawing against steps": _fitted(steps),
    }


def _fitted(tasks: dict[int, Callable[[], float]]) -> dict[str, Any]:
    values = in_turn({str(amount): task for amount, task in tasks.items()}, 3)
    seconds = [spread(found)["median"] for found in values.values()]
    return {"amounts": list(tasks), "seconds": seconds, "exponent": exponent(list(tasks), seconds)}


def _evaluation(found: dict[str, Any], device: torch.device) -> None:
    """10,000 images on the disk: the lab against torch-fidelity, same extractor, both with the reference in their cache."""
    data = garments()
    evaluator = Evaluator(Choice("fashion_cnn", {}), data, device)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npz"
        write_images(file, data.test.rows(torch.arange(JUDGED)), None, {"source": "held-out images"})

        def ours() -> float:
            fresh = Evaluator(Choice("fashion_cnn", {}), data, device)
            images = read_images(file)
            measured = measure([fresh], numbered(images.split(BATCH)), len(images), "evaluating", passing=True)[0]
            return frechet(fresh.reference.moments, measured.moments)

        def theirs() -> float:
            return fidelity_distance(read_images(file), data.train.rows(torch.arange(60_000)), f"{folder}/cache", BATCH)

        values = {"ddpm_lab": ours(), "torch-fidelity": theirs()}
        rates = in_turn({"ddpm_lab": rate(ours, JUDGED), "torch-fidelity": rate(theirs, JUDGED)}, ROUNDS)

    def judged(n: int) -> float:
        batches = numbered(data.train.rows(torch.arange(n)).split(BATCH))
        return (
            1
            / rate(
                lambda: frechet(evaluator.reference.moments, measure([evaluator], batches, n, "", passing=True)[0].moments), 1
            )()
        )

    found["growth"]["FID against N"] = _fitted({n: partial(judged, n) for n in (5_000, 10_000, 20_000, 40_000)})
    found["evaluation"] = {
        "values": values, "rates": {name: spread(one) for name, one in rates.items()},
        "ratio": ratio(rates["ddpm_lab"], rates["torch-fidelity"]),
    }  # fmt: skip


def _memory(found: dict[str, Any], _: torch.device) -> None:
    """Peak GB of whole commands."""
    lab = os.fspath(Path(sys.executable).with_name("ddpm-lab"))
    with tempfile.TemporaryDirectory() as results:
        short = ["train.images=12800", "evaluate.features=[]", "evaluate.every=null", "track=none", "--results", results]
        run = f"{results}/latest"
        draw = ["sampling.steps=2", "sampling.sampler=ddim"]
        found["memory"] = {
            "training, batch 128": peak_of(lab, "run", "cosine_l2", "train.batch=128", *short),
            "drawing and FID, N = 1,000": peak_of(lab, "evaluate", run, *draw, "--features", "fashion_cnn", "-n", "1000"),
            "drawing and FID, N = 10,000": peak_of(lab, "evaluate", run, *draw, "--features", "fashion_cnn", "-n", "10000"),
        }


def _training(found: dict[str, Any], device: torch.device) -> None:
    """All programs in turn, and what the machine can do at most."""
    found["ceilings"] = _ceilings(device)
    found["programs"], growth = _programs()
    found["growth"] |= growth
    programs = found["programs"]
    for program in programs.values():
        ceiling = found["ceilings"][f"convolution, {program['precision']}"]["median"]
        program["gflops"] = 3 * program["flops"] * program["training"]["median"] / 1e9
        program["share"] = program["gflops"] / ceiling
    rates = {name: program["training"]["values"] for name, program in programs.items()}
    found["ratios"] = {
        "the annotated network in the lab against the published loop": ratio(rates["lab_annotated"], rates["annotated"]),
        "the lab's loop against the bare loop": ratio(rates["lab"], rates["bare"]),
    }


def _plot(found: dict[str, Any]) -> None:
    programs = {name: program for name, program in found["programs"].items() if name != "bare"}
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
    places = np.arange(len(programs))
    for axis, key, title in (
        (axes[0], "training", "training, images/s"), (axes[1], "drawing", f"drawing with {EVALUATIONS} evaluations, images/s"),
    ):  # fmt: skip
        medians = [program[key]["median"] for program in programs.values()]
        below = [program[key]["median"] - program[key]["least"] for program in programs.values()]
        above = [program[key]["most"] - program[key]["median"] for program in programs.values()]
        colours = ["#2f6f9f" if name.startswith("lab") else "#b9c4cc" for name in programs]
        axis.barh(places, medians, xerr=[below, above], color=colours, capsize=3)
        axis.set_yticks(places, [program["title"] for program in programs.values()] if axis is axes[0] else [])
        axis.invert_yaxis()
        axis.set_title(title)
        for place, median in zip(places, medians, strict=True):
            axis.text(median, place, f" {median:,.0f}", va="bottom", fontsize=8)
    figure.savefig(REPORT / "speed.png", dpi=110)
    plt.close(figure)


PARTS = {"start": _start, "training": _training, "evaluation": _evaluation, "memory": _memory}

if __name__ == "__main__":
    main()
