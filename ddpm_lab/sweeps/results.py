"""The results of a sweep: a table and a plot."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm_lab.runtime.console import aligned
from ddpm_lab.storage.files import write_whole
from ddpm_lab.sweeps.wandb_file import Metric, Parameter, dotted

PANELS = 4  # in a row


@dataclass(frozen=True)
class Row:
    """A trial, finished or not."""

    number: int
    parameters: dict[str, Any]
    state: str
    value: float | None  # where it was stopped early, the last one
    fingerprint: str | None
    seconds: float | None  # of training
    run: str

    @property
    def finished(self) -> bool:
        """Whether its value stands beside the other finished ones."""
        return self.state == "finished" and self.value is not None


def table(rows: list[Row], metric: Metric) -> tuple[str, str]:
    """The trials as text, the best first, and as CSV.

    Values of different protocols are not ranked: then the trials stay in their order, and a line says so.
    """
    prints = protocols(rows)
    ranked = rows if len(prints) > 1 else best_first(rows, metric)
    told = {row.number: dotted(row.parameters) for row in rows}
    names = list(dict.fromkeys(name for found in told.values() for name in found))
    head = ["trial", *names, metric.name, "fingerprint", "training", "state", "run"]
    lines = [
        [str(row.number), *(_text(told[row.number].get(name, "")) for name in names), _text(row.value), row.fingerprint or "",
         "" if row.seconds is None else f"{row.seconds:.0f} s", row.state, row.run]
        for row in ranked
    ]  # fmt: skip
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([head, *lines])
    text = "\n".join(aligned([head, *lines]))
    if len(prints) > 1:
        text += f"\nnot ranked: these are values of {len(prints)} protocols; `result.json` of each run says what differs"
    return text, stream.getvalue()


def protocols(rows: Iterable[Row]) -> set[str | None]:
    """Fingerprints of the finished ones; None is that of a value that is no metric of a result."""
    return {row.fingerprint for row in rows if row.finished}


def best_first(rows: Iterable[Row], metric: Metric) -> list[Row]:
    """Those that are not finished last."""
    return sorted(rows, key=lambda row: _order(row, metric))


def plot(rows: list[Row], metric: Metric, parameters: Mapping[tuple[str, ...], Parameter], file: Path) -> bool:
    """The metric over each parameter that varies, or a map where there are two of listed values; False without a value."""
    shown = [row for row in rows if row.value is not None]
    about = {".".join(path): parameter for path, parameter in parameters.items()}
    varied = [name for name in about if len({_text(row.parameters.get(name)) for row in shown}) > 1]
    if not shown or not varied:
        return False
    from matplotlib.figure import Figure  # slow to import

    listed = [name for name in varied if about[name].choices is not None]
    figure = Figure(figsize=(5, 4), layout="constrained")
    if len(varied) == len(listed) == 2:
        _map(figure, shown, metric, listed)
    else:
        across, down = min(len(varied), PANELS), -(-len(varied) // PANELS)
        figure.set_size_inches(4 * across, 3.5 * down)
        for place, name in enumerate(varied, 1):
            axes = figure.add_subplot(down, across, place)
            _panel(axes, shown, name, about[name])
            axes.set_ylabel(metric.name)
    write_whole(file, lambda path: figure.savefig(path, format="png", dpi=150))
    return True


def _panel(axes: Any, rows: list[Row], name: str, parameter: Parameter) -> None:
    """One parameter: each trial a dot, open where it was stopped early; a stroke at the median of each listed value."""
    places = list(dict.fromkeys(_text(row.parameters[name]) for row in rows)) if parameter.choices is not None else None
    for done in (True, False):
        some = [row for row in rows if row.finished == done]
        across = [row.parameters[name] if places is None else places.index(_text(row.parameters[name])) for row in some]
        face = "C0" if done else "none"
        axes.scatter(across, [row.value for row in some], facecolors=face, edgecolors="C0", alpha=0.8)
    if places is not None:
        for place, text in enumerate(places):
            values = [
                row.value for row in rows if row.finished and row.value is not None and _text(row.parameters[name]) == text
            ]
            if values:
                axes.hlines(statistics.median(values), place - 0.25, place + 0.25, color="C1")
        axes.set_xticks(range(len(places)), places)
        axes.set_xlim(-0.5, len(places) - 0.5)
    elif parameter.logarithmic:
        axes.set_xscale("log")
    axes.set_xlabel(name)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)


def _map(figure: Any, rows: list[Row], metric: Metric, names: list[str]) -> None:
    """Two parameters: each pair of values a field with its number, the better the darker."""
    down, across = ([*dict.fromkeys(_text(row.parameters[name]) for row in rows)] for name in names)
    cells = [[float("nan")] * len(across) for _ in down]
    for row in rows:
        if row.finished and row.value is not None:
            cells[down.index(_text(row.parameters[names[0]]))][across.index(_text(row.parameters[names[1]]))] = row.value
    axes = figure.add_subplot()
    image = axes.imshow(cells, cmap="Blues_r" if metric.goal == "minimize" else "Blues", aspect="auto")
    for y, line in enumerate(cells):
        for x, value in enumerate(line):
            if value == value:  # not the NaN of a trial that has no value
                bright = sum(image.cmap(image.norm(value))[:3]) > 1.8
                axes.text(x, y, f"{value:.3g}", ha="center", va="center", color="black" if bright else "white")
    axes.set_xticks(range(len(across)), across)
    axes.set_yticks(range(len(down)), down)
    axes.set_xlabel(names[1])
    axes.set_ylabel(names[0])
    axes.set_title(metric.name)


def _order(row: Row, metric: Metric) -> tuple[bool, float]:
    value = row.value if row.finished and row.value is not None else 0.0
    return not row.finished, value if metric.goal == "minimize" else -value


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
