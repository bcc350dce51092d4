"""Which trials cannot be told from the best, by the seed noise that is known of their experiment."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from ddpm_lab.reports.seed_groups import Named, noise_beside, recorded, rows_of
from ddpm_lab.reports.seed_noise import Pooled
from ddpm_lab.storage.names import id_of
from ddpm_lab.storage.results_folder import runs
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.sweeps.results import Row


def tied_with_best(rows: Sequence[Row], metric: str) -> str:
    """A line for the user, as `compare` would rank the runs; nothing where fewer than two can be ranked."""
    numbers = {row.run: row.number for row in rows if row.finished and row.run}
    entries = measured(numbers, metric)
    if len({record.fingerprint for _, record in entries}) != 1 or len(entries) < 2:
        return ""
    noise = noise_around(entries, _chosen(numbers))
    if noise.freedom == 0:
        return "how much seeds differ is not known here, so the best trial may be so by its seed; try --confirm 3"
    ranked, _ = rows_of(entries, noise)
    best = sorted(numbers[name] for row in ranked if row.rank == 1 for name in row.names)
    told = f"seeds move {metric} by {noise.variance**0.5:.2g} in its logarithm, {noise.freedom} degrees of freedom"
    if len(best) == 1:
        return f"trial {best[0]} is better than all others by more than seeds make ({told})"
    return f"cannot be told from the best: trials {', '.join(map(str, best))} ({told})"


def repeated_id(trial: str, seed: int | str) -> str:
    """The id of the run that repeats the trial of that id with another seed."""
    return f"{trial}.seed{seed}"


def _chosen(paths: Iterable[str]) -> set[str]:
    """Those that were run again with fresh seeds: chosen for their values, they say nothing of how much seeds differ."""
    places = [Path(path) for path in paths]
    ids = {id_of(run.id) or "" for folder in {place.parent for place in places} for run in runs(folder.parent, folder.name)}
    repeated = {one.rpartition(repeated_id("", ""))[0] for one in ids}
    return {place.name for place in places if id_of(place.name) in repeated}


def measured(names: Iterable[str], metric: str) -> list[Named]:
    """What these runs have of that metric, such as FID/fashion_cnn."""
    found = recorded(RunFolder(Path(name)) for name in names)
    return [(name, one) for name, one in found if f"{one.metric}/{one.extractor}" == metric]


def noise_around(entries: Sequence[Named], without: Container[str] = ()) -> Pooled:
    """How much seeds differ, as all runs say that lie beside these, besides those with the ids in `without`."""
    return noise_beside((Path(name) for name, _ in entries), entries[0][1], without)
