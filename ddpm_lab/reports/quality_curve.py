"""Curves of quality, as `evaluate --curve` prints and plots them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ddpm_lab.reports.plots import plain_numbers
from ddpm_lab.runtime.console import aligned
from ddpm_lab.storage.files import write_whole
from ddpm_lab.storage.measurement import CurvePoint, Kind

ACROSS = {"nfe": "evaluations of the network for an image", "ema": "weights", "guidance": "guidance scale"}


def lines(rows: list[CurvePoint], kind: Kind, extractor: str) -> Iterator[str]:
    """The points as a table, with what their values are against."""
    cells = []
    for row in rows:
        record = row.value_of(extractor)
        around = record.around(record.interval)
        cells.append([row.named(kind), f"{row.evaluations:g}", record.number(record.value), around])
    record = rows[0].value_of(extractor)
    yield from aligned([["", "evaluations", record.metric, "95 %"], *cells])
    floor = f" floor {record.number(record.floor)};" if record.floor is not None else ""
    yield (
        f"{record.metric} by {record.measured_by}, N = {record.n:,} against {record.protocol.reference};{floor}"
        f" protocol {record.fingerprint}"
    )


def plot(rows: list[CurvePoint], kind: Kind, extractor: str, file: Path) -> Path:
    """The curves as a picture, with intervals and floor."""
    from matplotlib.figure import Figure  # slow to import
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name in dict.fromkeys(row.curve for row in rows):
        own = [row for row in rows if row.curve == name]
        records = [row.value_of(extractor) for row in own]
        values = [record.value or 0.0 for record in records]
        around = [record.interval or (value, value) for record, value in zip(records, values, strict=True)]
        below = [value - low for value, (low, _) in zip(values, around, strict=True)]
        above = [high - value for value, (_, high) in zip(values, around, strict=True)]
        across = [row.evaluations if kind == "nfe" else row.at for row in own]
        axes.errorbar(across, values, [below, above], marker="o", capsize=3, label=name or None)
    record = rows[0].value_of(extractor)
    if record.floor is not None:
        axes.axhline(record.floor, linestyle=":", color="gray", label=f"floor: {record.floor_n:,} held-out images")
    axes.set_xlabel(ACROSS[kind])
    axes.set_ylabel(f"{record.metric}, {extractor}, N = {record.n:,}")
    axes.set_yscale("log")
    if kind == "nfe":
        axes.set_xscale("log")
        ticks = sorted({row.evaluations for row in rows})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_formatter(NullFormatter())
    if kind == "ema":
        axes.tick_params("x", rotation=30)
    plain_numbers(axes.yaxis)
    axes.grid(alpha=0.2, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    write_whole(file, lambda path: figure.savefig(path, format="png", dpi=150))
    return file
