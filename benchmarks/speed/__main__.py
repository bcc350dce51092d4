"""How fast the lab is: against its own bare loop, the published recipe, and its peers, in turn on one machine.

python -m benchmarks.speed                       about a quarter of an hour on two cores
python -m benchmarks.speed start evaluation      measure these again, and keep the rest of the report

Writes benchmarks/reports/speed/{report.json,report.md,speed.png}.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks.common import command
from benchmarks.common.reporting import REPORTS, last_report, surroundings, write_report
from benchmarks.speed.commands import memory, start
from benchmarks.speed.evaluation import evaluation
from benchmarks.speed.plot import plot
from benchmarks.speed.programs import training
from ddpm_lab.runtime.device import pick_device

PARTS = {"start": start, "training": training, "evaluation": evaluation, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)} (default: all)")
    parts = parser.parse_args().parts
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"PARTS: no part '{unknown[0]}'; known: {', '.join(PARTS)}")
    device = pick_device(None)
    environment = surroundings(device)
    found = _last(environment["hardware"]) if parts else {"growth": {}, "measured": {}}
    found["environment"] = environment
    for part in parts or PARTS:
        PARTS[part](found, device)
        found["measured"][part] = {"date": time.strftime("%Y-%m-%d"), "commit": environment["commit"]}
    write_report("speed", found)
    plot(found["programs"], REPORTS / "speed/speed.png")


def _last(hardware: str) -> dict[str, Any]:
    """The last report, to measure parts of it again; ratios are between what was measured in one part."""
    known = last_report("speed")
    if known.get("environment", {}).get("hardware") != hardware:
        raise SystemExit(f"{REPORTS / 'speed/report.json'}: not a report of this machine; measure all parts first")
    return known


if __name__ == "__main__":
    command.execute(main)
