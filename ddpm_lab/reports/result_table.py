"""Results as a terminal shows them: one aligned table, and below it, once, how they were measured."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from ddpm_lab.runtime.console import aligned
from ddpm_lab.storage.measurement import Measurement, RunResult

WIDTH = 100  # columns, for lists of fingerprints


def result_lines(records: Iterable[Measurement]) -> Iterator[str]:
    """The table of the values, then the protocol of those that share one, then why others are unavailable."""
    records = list(records)
    groups = by_protocol(records)
    if groups:
        extractors = {how: f" ({members[0].extractor})" if _repeated(records) else "" for how, members in groups.items()}
        rows = [[record.metric + extractors[how], *_cells(record)] for how, members in groups.items() for record in members]
        yield from aligned([["metric", "value", "95 %", "floor"], *rows])
    for how, members in groups.items():
        yield how
        # Joined by a hard space for a moment, so that no line ends between a metric and its fingerprint.
        fingerprints = ", ".join(f"{record.metric}\xa0{record.fingerprint}" for record in members)
        for line in textwrap.wrap(f"protocol: {fingerprints}", WIDTH, initial_indent="  ", subsequent_indent="  "):
            yield line.replace("\xa0", " ")
    for record in records:
        if record.value is None:
            yield f"{record.metric} unavailable ({record.extractor}: {record.unavailable})"


def in_a_line(result: RunResult) -> str:
    """`218,880 images, FID 0.558 (fashion_cnn, N = 2,000)`."""
    values = [f"{one.metric} {one.number(one.value)} ({one.measured_by}, N = {one.n:,})" for one in result.of_main]
    return ", ".join([f"{result.images:,} images", *values])


def by_protocol(records: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    """The records with a value, by all that they share: extractor, N, reference, and how the images were made."""
    groups: dict[str, list[Measurement]] = {}
    for record in records:
        if record.value is not None:
            against = f"{record.measured_by}, N = {record.n:,} against {record.protocol.reference}"
            made = record.made_by or "made by: unknown"
            seed = f", seed {record.generation['seed']}" if "seed" in record.generation else ""
            groups.setdefault(f"{against}; {made}{seed}", []).append(record)
    return groups


def floor_of(record: Measurement) -> str:
    """`1.020`, or where fewer images are held out `1.020 (N = 500)`; empty where there is none."""
    fewer = f" (N = {record.floor_n:,})" if record.floor is not None and record.floor_n != record.n else ""
    return record.number(record.floor) + fewer


def _cells(record: Measurement) -> list[str]:
    return [record.number(record.value), record.around(record.interval), floor_of(record)]


def _repeated(records: list[Measurement]) -> bool:
    """Whether a metric stands there for several extractors."""
    names = [record.metric for record in records if record.value is not None]
    return len(set(names)) < len(names)
