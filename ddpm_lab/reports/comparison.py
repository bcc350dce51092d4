"""`compare`: runs and .npz files ranked by a value of one protocol, and by nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ddpm_lab.reports.seed_groups import Named, Row, rows_of
from ddpm_lab.reports.seed_noise import Pooled
from ddpm_lab.reports.shared_buckets import over_shared
from ddpm_lab.reports.trained_code import differences
from ddpm_lab.runtime.console import Shown, aligned, say
from ddpm_lab.storage.json_text import Json
from ddpm_lab.storage.measurement import Measurement, difference, plain, read_measurements
from ddpm_lab.storage.run_folder import RESOLVED, RunFolder
from registry.errors import BadInput, did_you_mean
from registry.metrics import METRICS

TIES = "; ranks with `=` are ties: seeds alone make such differences"


class Entry(NamedTuple):
    """A record of a metric, and whose it is."""

    name: str
    record: Measurement


@dataclass(frozen=True, repr=False)
class Ranking(Shown):
    """The rows of one protocol."""

    metric: str
    rows: list[Row]  # the best first
    noise: Pooled

    def lines(self, more: Mapping[str, Callable[[Row], str]] | None = None) -> Iterator[str]:
        """The table, with `more` columns behind the ranks, and how it was measured."""
        rows, noise, more = self.rows, self.noise, more or {}
        head = ["", *more, self.metric, "95 %", "over", "made by", "run"]
        yield from aligned([head, *([_rank(row), *(told(row) for told in more.values()), *_cells(row)] for row in rows)])
        if noise.freedom:
            yield (
                f"seeds move {self.metric} by {noise.variance**0.5:.2g} in its logarithm (one standard deviation,"
                f" {noise.freedom} degrees of freedom){TIES if any(row.tied for row in rows) else ''}"
            )
        versions: dict[int, list[str]] = {}
        for row in rows:
            if (version := row.record.streams) is not None:
                versions.setdefault(version, []).extend(row.names)
        if len(versions) > 1:
            told = "; ".join(
                f"version {version}: {', '.join(dict.fromkeys(names))}" for version, names in sorted(versions.items())
            )
            yield f"sampled from the noise of different versions of the random streams, even where seeds agree ({told})"
        yield from differences([name for row in rows for name in row.names])
        first = rows[0].record
        buckets = f", mean of the buckets {'; '.join(first.buckets)}, which all of them wholly cover" if first.buckets else ""
        floor = f" floor {first.floor:.4g};" if first.floor is not None else ""
        yield (
            f"{first.protocol.metric} by {first.measured_by}, N = {first.n:,} against {first.protocol.reference};{floor}"
            f" protocol {first.fingerprint}{buckets}"
        )


def rank(names: Sequence[str], metric: str | None, extractor: str | None, n: int | None) -> Ranking:
    """The rows of `ddpm-lab compare`, the best first; without a metric by the main one.

    Where something was measured more than once, that record counts whose protocol the others share. What has no such value
    is left out, and said so; a link counts as what it points at, once. Runs that differ in the seed alone are one row.

    Raises:
        BadInput: there is no such file, nothing has such a value, or the protocols differ; the fields that do are named.
    """
    metric = metric or METRICS.main
    found, without = [], list[_Without]()
    for name in _distinct(names):
        try:
            found.append(_entries(name, metric, extractor, n))
        except _Without as error:
            without.append(error)
    if not found:
        raise without[-1]
    for text in _left_out(without):
        say(f"left out: {text}")
    shared = set.intersection(*({entry.record.fingerprint for entry in entries} for entries in found))
    if not shared:
        raise BadInput(_difference(found))
    if len(shared) > 1:
        kinds = sorted({f"{e.record.extractor}, N = {e.record.n}" for e in found[0] if e.record.fingerprint in shared})
        raise BadInput(f"they share values of {len(shared)} protocols ({'; '.join(kinds)}); choose by --features or -n")
    rows = [entry for entries in found for entry in entries if entry.record.fingerprint in shared]
    return ranked(metric, rows)


def ranked(metric: str, entries: Sequence[Named], noise: Pooled | None = None) -> Ranking:
    """The rows of records of one protocol; how much seeds differ these records say, unless it is known already.

    Raises:
        BadInput: they are means over buckets of log SNR, and share none.
    """
    names, records = zip(*entries, strict=True)
    return Ranking(metric, *rows_of(list(zip(names, over_shared(records, names), strict=True)), noise))


def plain_ranking(found: Ranking) -> Json:
    """What a program reads."""
    first = found.rows[0].record
    rows = [
        {
            "rank": row.rank, "tied": row.tied, "value": row.value, "interval": row.interval, "over": row.over,
            "values": row.values, "runs": row.names, "made_by": row.record.generation,
        }
        for row in found.rows
    ]  # fmt: skip
    noise = None if found.noise.freedom == 0 else {"sd": found.noise.variance**0.5, "freedom": found.noise.freedom}
    about = {"metric": found.metric, "higher_is_better": first.higher_is_better, "floor": first.floor, "seed_noise": noise}
    found_plain: Json = plain(
        about | {"fingerprint": first.fingerprint, "protocol": first.protocol, "buckets": first.buckets, "rows": rows}
    )
    return found_plain


class _Without(BadInput):
    """Something that exists and has no value to compare: of many that a pattern names, the others stand."""


class _NoRun(_Without):
    """Something that is not even a run."""


def _left_out(without: Sequence[_Without]) -> Iterator[str]:
    strangers = [str(error) for error in without if isinstance(error, _NoRun)]
    if strangers:
        more = f", and {len(strangers) - 1} more such names" if len(strangers) > 1 else ""
        yield f"{strangers[0]}{more}"
    yield from (str(error) for error in without if not isinstance(error, _NoRun))


def _distinct(names: Sequence[str]) -> list[str]:
    """Each run and file once, under the name that is no link where it has several."""
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda name: os.path.islink(name.rstrip("/"))):
        found.setdefault(os.path.realpath(RunFolder.named(name).path), name)
    return sorted(found.values(), key=list(names).index)


def _entries(name: str, metric: str, extractor: str | None, n: int | None) -> list[Entry]:
    path = Path(name)
    # `results/*/*` names files in `results/latest` and folders of sweeps too.
    if path.suffix != ".npz" and os.path.exists(path) and not os.path.exists(RunFolder.named(name).experiment):
        raise _NoRun(f"no run at '{name}': it holds no {RESOLVED}")
    records = [record for record in _records(path) if record.value is not None]
    if not records:
        raise _Without(f"{name}: nothing was measured there; `ddpm-lab evaluate {name}` does")
    known = sorted({record.metric for record in records})
    if metric not in known:
        raise _Without(f"--metric: {name} has no {metric}; {did_you_mean(metric, known)}")
    fitting = [
        record for record in records
        if record.metric == metric and extractor in (None, record.extractor) and n in (None, record.n)
    ]  # fmt: skip
    if not fitting:
        there = sorted({f"{record.extractor}, N = {record.n}" for record in records if record.metric == metric})
        raise _Without(f"{name}: no {metric} of that kind; it has {'; '.join(there)}")
    return [Entry(name, record) for record in fitting]


def _records(path: Path) -> list[Measurement]:
    """All that was ever measured of a run or an .npz; the same sampling procedure once, as it was measured last."""
    if path.suffix == ".npz":
        if not path.is_file():
            raise BadInput(f"{path}: no such file")
        files = [path.with_suffix(".evaluation.json")]
    else:
        folder = RunFolder.open(path)
        files = [folder.result, *folder.path.glob("evaluation-*.json")]
    found: dict[str, Measurement] = {}
    # What was measured of an unfinished run does not stand for the finished one: the later file counts.
    for file in sorted((file for file in files if file.is_file()), key=lambda file: file.stat().st_mtime_ns):
        try:
            for record in read_measurements(file):
                if record.value is not None and not record.fingerprint:
                    raise ValueError("a value without its protocol")
                _ = record.streams
                found[json.dumps([record.metric, record.fingerprint, dict(record.generation)])] = record
        except (OSError, ValueError):
            raise BadInput(f"{file}: not a list of measurements; `ddpm-lab evaluate {path}` writes one") from None
    return list(found.values())


def _difference(found: list[list[Entry]]) -> str:
    """Which fields of the protocol keep the first apart from the one that fits it least."""
    first = found[0][0]
    for entries in found[1:]:
        if first.record.fingerprint in {entry.record.fingerprint for entry in entries}:
            continue
        other = entries[0]
        fields = difference(first.record, other.record)
        return f"{first.name} and {other.name} were not measured alike ({fields}); evaluate them alike first"
    return "these were not measured alike; evaluate them with the same --features and -n first"


def _cells(row: Row) -> list[str]:
    around = f"{row.interval[0]:.4g} to {row.interval[1]:.4g}" if row.interval else ""
    return [f"{row.value:.4g}", around, row.over, row.record.made_by or "unknown", ", ".join(row.names)]


def _rank(row: Row) -> str:
    return f"{row.rank}{'=' if row.tied else ''}"
