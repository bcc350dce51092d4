"""Peak memory of whole runs at the sizes of CIFAR-10 and ImageNet 64, on synthetic images.

python -m benchmarks.memory      writes benchmarks/reports/memory/report.json and the table of memory in docs/backbones.md
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import command
from benchmarks.common.reporting import REPORTS, write_table
from benchmarks.common.timing import peak_of
from ddpm_lab.storage.json_text import read_json, write_json

REPORT = REPORTS / "memory/report.json"
PAGE = Path("docs/backbones.md")
IMPROVED = (
    "name: adm_unet, width: 128, blocks: 3, attention_resolutions: [16, 8], heads: 4, head_channels: null,"
    " resblock_updown: false"
)
SHORT = [
    "train.images=32", "train.batch=16", "train.samples_every=null", "evaluate.every=null", "evaluate.n=8",
    "sampling.steps=2", "sampling.batch=4", "variance=learned_range", "sampling.sampler=ancestral", "train.optimizer=AdamW",
    "track=none",
]  # fmt: skip
RUNS = {
    "CIFAR-10, improved-diffusion": (32, f"{{{IMPROVED}, multipliers: [1, 2, 2, 2]}}"),
    "ImageNet 64, improved-diffusion": (64, f"{{{IMPROVED}, multipliers: [1, 2, 3, 4]}}"),
    "the same, `activation_checkpointing`": (64, f"{{{IMPROVED}, multipliers: [1, 2, 3, 4], activation_checkpointing: true}}"),
    "ImageNet 64, DiT-S/4": (64, "{name: dit, width: 384, depth: 12, heads: 6, patch: 4}"),
}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = []
    for name, (size, backbone) in RUNS.items():
        rows.append({"name": name, "size": size, "backbone": backbone, **_measured(size, backbone)})
        print(rows[-1])
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    write_json(REPORT, {"overrides": SHORT, "rows": rows})
    write_table(PAGE, "memory", _table(rows))


def _measured(size: int, backbone: str) -> dict[str, Any]:
    """One run in a process of its own; the kernel says how much it held at most."""
    dataset = f"dataset={{name: shapes, size: {size}, channels: 3, count: 64}}"
    with tempfile.TemporaryDirectory() as results:
        words = ["run", "smoke", dataset, f"backbone={backbone}", *SHORT, "--results", results]
        gigabytes = peak_of(sys.executable, "-m", "ddpm_lab", *words)
        result = read_json(Path(results) / "latest/result.json")
    return {"gigabytes": gigabytes, "parameters": result["parameters"], "training_seconds": result["training_seconds"]}


def _table(rows: list[dict[str, Any]]) -> str:
    lines = ["| images and network | parameters | peak memory of the run | training, 32 images |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {row['name']} | {row['parameters'] / 1e6:.1f} M | {row['gigabytes']:.1f} GiB | {row['training_seconds']:.0f} s |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    command.execute(main)
