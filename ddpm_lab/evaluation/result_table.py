"""Results as a terminal shows them: one aligned table, and below it, once, how they were measured."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from ddpm_lab.evaluation.measurement import Record, digits_of, drawn_by, measured_by
from ddpm_lab.runtime.console import aligned

WIDTH = 100  # columns, for lists of fingerprints


def result_lines(records: Iterable[Record]) -> Iterator[str]:
    """The table of the values, then the protocol of those that share one, then why others are unavailable."""
    records = list(records)
    groups = by_protocol(records)
    if groups:
        extractors = {how: f" ({members[0]['extractor']})" if _repeated(records) else "" for how, members in groups.items()}
        rows = [[record["metric"] + extractors[how], *_cells(record)] for how, members in groups.items() for record in members]
        yield from aligned([["metric", "value", "95 %", "floor"], *rows])
    for how, members in groups.items():
        yield how
        # Joined by a hard space for a moment, so that no line ends between a metric and its fingerprint.
        fingerprints = ", ".join(f"{record['metric']}\xa0{record['fingerprint']}" for record in members)
        for line in textwrap.wrap(f"protocol: {fingerprints}", WIDTH, initial_indent="  ", subsequent_indent="  "):
            yield line.replace("\xa0", " ")
    for record in records:
        if record["value"] is None:
            yield f"{record['metric']} unavailable ({record['extractor']}: {record['unavailable']})"


def by_protocol(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The records with a value, by all that they share: extractor, N, reference, and how the images were made."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record["value"] is not None:
            against = f"{measured_by(record)}, N = {record['n']:,} against {record['protocol']['reference']}"
            made = drawn_by(record) or "made by: unknown"
            seed = f", seed {record['generation']['seed']}" if "seed" in record.get("generation", {}) else ""
            groups.setdefault(f"{against}; {made}{seed}", []).append(record)
    return groups


def value_of(record: Record) -> str:
    """`3.210`."""
    return f"{record['value']:.{digits_of(record)}f}"


def interval_of(record: Record) -> str:
    """`3.050 to 3.370`; empty where there is none."""
    digits, interval = digits_of(record), record.get("interval")
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}" if interval else ""


def floor_of(record: Record) -> str:
    """`1.020`, or where fewer images are held out `1.020 (N = 500)`; empty where there is none."""
    if record["floor"] is None:
        return ""
    fewer = f" (N = {record['floor_n']:,})" if record["floor_n"] != record["n"] else ""
    return f"{record['floor']:.{digits_of(record)}f}{fewer}"


def _cells(record: Record) -> list[str]:
    return [value_of(record), interval_of(record), floor_of(record)]


def _repeated(records: list[Record]) -> bool:
    """Whether a metric stands there for several extractors."""
    names = [record["metric"] for record in records if record["value"] is not None]
    return len(set(names)) < len(names)
