"""Runs that differ in the seed alone are one row of a ranking; rows that seeds alone could have put in that order are ties."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ddpm_lab.config.yaml_reader import read_mapping
from ddpm_lab.reports.seed_noise import Pooled, pool_logs
from ddpm_lab.storage.measurement import Interval, Measurement, read_measurements
from ddpm_lab.storage.results_folder import runs
from ddpm_lab.storage.run_folder import RESOLVED, RunFolder
from registry.errors import BadInput
from registry.files import PLUGIN, read_file

Named = tuple[str, Measurement]


@dataclass(frozen=True)
class Row:
    """One recipe's value."""

    names: tuple[str, ...]
    record: Measurement  # of the first run
    values: tuple[float, ...]  # of each seed
    value: float  # of several seeds the geometric mean
    interval: Interval | None  # of several seeds over seeds, of one over images
    rank: int = 0
    tied: bool = False

    @property
    def over(self) -> str:
        """What the interval is over."""
        if len(self.values) > 1:
            return f"{len(self.values)} seeds"
        return "images, not seeds" if "sampler" in self.record.generation else "images"


def recorded(runs: Iterable[RunFolder]) -> Iterator[Named]:
    """All values of these runs; those without a readable result have none."""
    for run in runs:
        try:
            records = read_measurements(run.result)
        except (OSError, BadInput):
            continue
        yield from ((str(run.path), one) for one in records if one.value is not None)


def noise_beside(places: Iterable[Path], like: Measurement, without: Container[str] = ()) -> Pooled:
    """How much seeds differ, as all runs say that lie beside these and were measured like that, but for those of these ids."""
    beside = [run for folder in {place.parent for place in places} for run in runs(folder.parent, folder.name)]
    found = recorded(run for run in beside if run.id not in without)
    alike = [(name, one) for name, one in found if one.fingerprint == like.fingerprint]
    return rows_of(alike)[1] if alike else pool_logs([])


def rows_of(entries: Sequence[Named], noise: Pooled | None = None) -> tuple[list[Row], Pooled]:
    """The rows, best first, with their ranks, and how much seeds differ: as far as these runs say, or as is known already."""
    groups: dict[str, dict[Any, list[Named]]] = {}
    positive = all(record.value is not None and record.value > 0 for _, record in entries)
    for number, (name, record) in enumerate(entries):
        recipe, seed = (_recipe(RunFolder.named(name).path, record) if positive else None) or (str(number), None)
        groups.setdefault(recipe, {}).setdefault(seed, []).append((name, record))
    several = [group for group in groups.values() if len(group) > 1]
    logs = {id(group): [_mean_log(one) for one in group.values()] for group in several}
    noise = pool_logs(list(logs.values())) if noise is None else noise
    rows = [_row(group, logs[id(group)], noise) for group in several]
    alone = [one for group in groups.values() if len(group) == 1 for entries in group.values() for one in entries]
    rows += [Row((name,), one, (one.value or 0.0,), one.value or 0.0, one.interval) for name, one in alone]
    rows.sort(key=lambda row: row.value, reverse=entries[0][1].higher_is_better)
    return _ranked(rows, noise), noise


def _row(group: Mapping[Any, Sequence[Named]], logs: Sequence[float], noise: Pooled) -> Row:
    mean, half = statistics.fmean(logs), noise.half(1 / len(logs))
    names = tuple(name for entries in group.values() for name, _ in entries)
    (_, first), *_ = next(iter(group.values()))
    interval = math.exp(mean - half), math.exp(mean + half)
    return Row(names, first, tuple(map(math.exp, logs)), math.exp(mean), interval)


def _ranked(rows: Sequence[Row], noise: Pooled) -> list[Row]:
    """Those that cannot be told from the best of their rank share it."""
    heads: list[tuple[int, Row]] = []
    for number, row in enumerate(rows, 1):
        heads.append(heads[-1] if heads and _alike(heads[-1][1], row, noise) else (number, row))
    ranks = [rank for rank, _ in heads]
    return [replace(row, rank=rank, tied=ranks.count(rank) > 1) for row, rank in zip(rows, ranks, strict=True)]


def _alike(one: Row, other: Row, noise: Pooled) -> bool:
    """Whether seeds alone make such a difference, where it is known what they make; images from elsewhere have none."""
    if noise.freedom == 0 or any("sampler" not in row.record.generation for row in (one, other)):
        return False
    factor = 1 / len(one.values) + 1 / len(other.values)
    return abs(math.log(one.value / other.value)) < noise.half(factor)


def _mean_log(entries: Sequence[Named]) -> float:
    """Of what was measured with one seed of training, which may have been sampled with several."""
    return statistics.fmean(math.log(record.value or math.nan) for _, record in entries)


def _recipe(run: Path, record: Measurement) -> tuple[str, int] | None:
    """All that its value depends on besides seeds, and the seed of training; None for what is no run of the lab's."""
    try:
        whole = read_mapping(run / RESOLVED)
        seed = whole.pop("seed")
        files = sorted((run / "plugins").rglob("*.py"))
        plugins = [hashlib.sha256(read_file(file, PLUGIN)).hexdigest() for file in files]
    except (OSError, BadInput, KeyError):
        return None
    for key in ("track", "plugins", "sampling", "evaluate"):  # how it was sampled and measured, its record says
        whole.pop(key, None)
    made = {key: value for key, value in record.generation.items() if key != "seed"}
    return json.dumps([whole, plugins, made, record.fingerprint], sort_keys=True, default=str), seed
