"""Compare the backbones: the same recipe, the same number of images, Fashion-MNIST. Resumable.

python -m benchmarks.backbones      writes benchmarks/reports/backbones/report.json and the table in docs/backbones.md
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ddpm_lab
from benchmarks.common import command
from benchmarks.common.reporting import RECIPE, REPORTS, surroundings, write_table
from ddpm_lab.config.load import load_recipe
from ddpm_lab.diffusion.build import build_data, build_model, build_objective
from ddpm_lab.diffusion.cost import flops_per_image
from ddpm_lab.diffusion.model import DataShape
from ddpm_lab.evaluation.held_out_errors import held_out_errors
from ddpm_lab.runtime.device import pick_device, pick_precision
from ddpm_lab.storage.json_text import read_json, write_json
from ddpm_lab.storage.results_folder import with_id
from ddpm_lab.training.trainer import Trainer

RESULTS = Path("results/backbones")
REPORT = REPORTS / "backbones/report.json"
PAGE = Path("docs/backbones.md")
BUDGET = [
    "train.images=25600", "train.batch=64", "train.ema.half_life=3000", "train.rate.warmup=3200", "train.samples_every=null",
    "train.checkpoint_every=6400", "sampling.sampler=ddim", "sampling.steps=20", "evaluate.every=null", "evaluate.n=2000",
]  # fmt: skip
HELD_OUT = 2000  # test images
ROUNDS, STEPS = 5, 3
NETWORKS = {
    "patch_unet": "{name: patch_unet, width: 32}",
    "annotated_unet": "{name: annotated_unet}",
    "adm_unet": "{name: adm_unet, width: 32, multipliers: [1, 2, 2], blocks: 1, head_channels: 32}",
    "edm2_unet": "{name: edm2_unet, width: 32, multipliers: [1, 2, 2], blocks: 1, head_channels: 32, bandwidth: 0.003}",
    "dit": "{name: dit, patch: 4}",
    "uvit": "{name: uvit, patch: 4}",
    "mlp": "{name: mlp}",
}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name in NETWORKS:
        words = [sys.executable, "-m", "ddpm_lab", "run", RECIPE, *_overrides(name), "--id", name, "--results", str(RESULTS)]
        subprocess.run(words, check=True)
    speeds = _speeds()
    rows = [_row(name, speeds[name]) for name in NETWORKS]
    report = {"recipe": RECIPE, "budget": BUDGET, "networks": NETWORKS, "rows": rows, "environment": surroundings()}
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    write_json(REPORT, report)
    write_table(PAGE, "measured", _table(rows))


def _overrides(name: str) -> list[str]:
    return [f"backbone={NETWORKS[name]}", *BUDGET]


def _speeds() -> dict[str, list[float]]:
    """Training images/s of each network, in turn, so that a slow moment of the machine meets all alike."""
    trainers = {name: _trainer(name) for name in NETWORKS}
    found: dict[str, list[float]] = {name: [] for name in NETWORKS}
    for trial in range(ROUNDS + 1):
        for name, trainer in trainers.items():
            batches = [trainer.batch(step) for step in range(STEPS)]
            start = time.perf_counter()
            for batch in batches:
                trainer.step(batch)
            if trial:  # the first one warms up
                found[name].append(STEPS * trainer.experiment.train.batch / (time.perf_counter() - start))
    return found


def _trainer(name: str) -> Trainer:
    experiment = load_recipe(RECIPE, _overrides(name)).experiment
    data, device = build_data(experiment), pick_device(None)
    model = build_model(experiment, DataShape.of(data), device)
    objective = build_objective(experiment, DataShape.of(data), model)
    return Trainer(experiment, model, objective, data.train, pick_precision("auto", device))


def _row(name: str, speeds: list[float]) -> dict[str, Any]:
    folder = with_id(RESULTS, RECIPE, name)
    assert folder is not None
    run, result = ddpm_lab.load(folder.path), read_json(folder.result)
    model = run.model(run.experiment.sampling)
    test = build_data(run.experiment).test
    losses = held_out_errors(model, model.network, test.images[:HELD_OUT], None, run.precision).mean(dim=0).tolist()
    fid = next(line for line in result["metrics"] if line["metric"] == "FID")
    return {
        "name": name, "parameters": model.parameters, "flops": flops_per_image(model, run.shape),
        "images_per_second": statistics.median(speeds), "speeds": speeds, "training_seconds": result["training_seconds"],
        "held_out_loss": statistics.mean(losses), "held_out_by_log_snr": losses, "fid": fid["value"], "n": fid["n"],
        "floor": fid["floor"], "fingerprint": fid["fingerprint"],
    }  # fmt: skip


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"| network | parameters | GFLOP per image, forward | training images/s | held-out loss | FID, N = {rows[0]['n']:,} |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        network = NETWORKS[row["name"]][1:-1].removeprefix("name: ")
        lines.append(
            f"| `{network}` | {row['parameters'] / 1e6:.2f} M | {row['flops'] / 1e9:.3f} |"
            f" {row['images_per_second']:.0f} ({min(row['speeds']):.0f} to {max(row['speeds']):.0f}) |"
            f" {row['held_out_loss']:.4f} | {row['fid']:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    command.execute(main)
