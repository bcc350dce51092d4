"""Which trials cannot be told from the best, by the seed noise that is known of their experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ddpm_lab.reports.seed_groups import Named, noise_among, rows_of
from ddpm_lab.storage.measurement import read_measurements
from ddpm_lab.storage.results_folder import runs
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.sweeps.results import Row
from registry.errors import BadInput


def tied_with_best(rows: Sequence[Row], metric: str) -> str:
    """A line for the user, as `compare` would rank the runs; nothing where fewer than two can be ranked."""
    entries, numbers = list[Named](), dict[str, int]()
    for row in rows:
        try:
            records = read_measurements(RunFolder(Path(row.run)).result) if row.finished and row.run else ()
        except (OSError, BadInput):
            continue
        for record in records:
            if f"{record.metric}/{record.extractor}" == metric and record.value is not None:
                entries.append((row.run, record))
                numbers[row.run] = row.number
    if len({record.fingerprint for _, record in entries}) != 1 or len(entries) < 2:
        return ""
    folders = {Path(name).parent for name, _ in entries}
    noise = noise_among([run for folder in folders for run in runs(folder.parent, folder.name)], entries[0][1])
    if noise.freedom == 0:
        return "how much seeds differ is not known here, so the best trial may be so by its seed; run some with other seeds"
    ranked, _ = rows_of(entries, noise)
    best = sorted(numbers[name] for row in ranked if row.rank == 1 for name in row.names)
    told = f"seeds move {metric} by {noise.variance**0.5:.2g} in its logarithm, {noise.freedom} degrees of freedom"
    if len(best) == 1:
        return f"trial {best[0]} is better than all others by more than seeds make ({told})"
    return f"cannot be told from the best: trials {', '.join(map(str, best))} ({told})"
