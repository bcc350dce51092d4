"""How many pairs a verdict takes, by simulation: no run is made.

python -m benchmarks.verdicts      half a minute on one core

The seeds of each of the two recipes move ln FID by 7 % (one standard deviation), independently. Writes
benchmarks/reports/verdicts/report.json, and the table of docs/decisions.md.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import command
from benchmarks.common.reporting import REPORTS, write_table
from benchmarks.verdicts.simulation import Simulated, verdicts
from ddpm_lab.storage.json_text import write_json
from ddpm_lab.studies.confidence import EFFECT

SPREAD = 0.07 * math.sqrt(2)  # of the log ratio of a pair
MARGIN, COUNT, LONGEST = 0.15, 4000, 400
RATIOS = (1.0, 0.95, 0.9, 0.8, 0.5)
EFFECTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
PAGE = Path("docs/decisions.md")


def main() -> None:
    noise = SPREAD * np.random.default_rng(0).standard_normal((COUNT, LONGEST))
    rows = [_row(ratio, noise, EFFECT) for ratio in RATIOS]
    choices = [{"g": g, "pairs": [_row(ratio, noise, g)["to_find"] for ratio in RATIOS[1:]]} for g in EFFECTS]
    folder = REPORTS / "verdicts"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", {"margin": MARGIN, "spread": SPREAD, "verdicts": COUNT, "rows": rows, "g": choices})
    for choice in choices:
        print(f"g = {choice['g']:g}: {', '.join(f'{pairs:.1f}' for pairs in choice['pairs'])} pairs to find {RATIOS[1:]}")
    head = (
        "| true ratio | mean pairs | better or worse | no difference above 15 % | within 10 pairs | within 20 |"
        " mean pairs, `--margin 0` |"
    )
    table = "\n".join([head, "| --- " * 7 + "|", *map(_line, rows)]) + "\n"
    print(table)
    write_table(PAGE, "pairs", table)


def _row(ratio: float, noise: Any, g: float) -> dict[str, float]:
    """Of verdicts at that ratio."""
    logs = math.log(ratio) + noise
    found, without = verdicts(logs, MARGIN, g=g), verdicts(logs, 0.0, g=g)
    return {
        "ratio": ratio, "pairs": found.pairs.mean(), "differs": found.differs.mean(), "agrees": found.agrees.mean(),
        "within_ten": _within(found, 10), "within_twenty": _within(found, 20), "to_find": without.pairs.mean(),
        "found": without.differs.mean(),
    }  # fmt: skip


def _within(found: Simulated, pairs: int) -> float:
    """The share that so many pairs decide."""
    return float(((found.pairs <= pairs) & (found.differs | found.agrees)).mean())


def _line(row: dict[str, float]) -> str:
    alone = f"{row['to_find']:.1f}" if row["ratio"] != 1 else f"found in {row['found']:.1%} after {LONGEST}"
    return (
        f"| {row['ratio']:g} | {row['pairs']:.1f} | {row['differs']:.0%} | {row['agrees']:.0%} | {row['within_ten']:.0%}"
        f" | {row['within_twenty']:.0%} | {alone} |"
    )


if __name__ == "__main__":
    command.execute(main)
