"""Curves as SVG, in colours that both a light and a dark page bear."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

Points = Sequence[tuple[float, float]]
INK = "#808080"
NEAR = 5  # times: a floor further down would squeeze what is to be compared into a corner


def svg_of_curves(
    curves: Sequence[tuple[str, Points]], across: str, up: str, *, logarithmic: bool = False, floor: float | None = None,
    wide: bool = True,
) -> str:  # fmt: skip
    """Named curves over `across`; nothing without points.

    `logarithmic`: the x-axis. `floor`: a line below them, if near. `wide`: a logarithmic y-axis where values differ tenfold.
    """
    if not any(points for _, points in curves):
        return ""
    from matplotlib.figure import Figure  # slow to import
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    figure = Figure(figsize=(6, 3 + 0.14 * max(len(curves) - 3, 0)), layout="constrained")
    axes = figure.add_subplot()
    for label, points in curves:
        axes.plot(*zip(*points, strict=True), label=label, marker="o" if len(points) < 30 else "", markersize=3)
    values = [value for _, points in curves for _, value in points]
    if floor is not None and floor * NEAR > min(values):
        values.append(floor)
        axes.axhline(floor, linestyle=":", color=INK, label="floor")
    if wide and min(values) > 0 and max(values) > 10 * min(values):
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
    if logarithmic:
        axes.set_xscale("log")
        ticks = sorted({place for _, points in curves for place, _ in points})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    if any(label != up for label, _ in curves):
        axes.legend(frameon=False, labelcolor=INK, fontsize="small")
    return _svg(figure, axes)


def svg_of_intervals(rows: Sequence[tuple[str, float, tuple[float, float] | None]], across: str, floor: float | None) -> str:
    """A line for each named value with its interval, the first on top; with the floor if it is near."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(6, 1 + 0.35 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, value, interval) in enumerate(rows):
        low, high = interval or (value, value)
        axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color="C0", capsize=3)
    if floor is not None and floor * NEAR > min(value for _, value, _ in rows):
        axes.axvline(floor, linestyle=":", color=INK)
        axes.annotate(" floor", (floor, -0.6), color=INK, fontsize="small")
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.8)
    shown = [end for _, value, interval in rows for end in interval or (value,)]
    if max(shown) > 10 * min(shown) > 0:
        axes.set_xscale("log")
        plain_numbers(axes.xaxis)
    axes.set_xlabel(across)
    return _svg(figure, axes)


def plain_numbers(axis: Any) -> None:
    """0.2, 0.5, 1, 2, 5, 10 on a logarithmic axis, instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter  # slow to import

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))


def _svg(figure: Any, axes: Any) -> str:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set_color(INK)
    axes.tick_params(which="both", colors=INK)
    for spine in axes.spines.values():
        spine.set_color(INK)
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return stream.getvalue()[stream.getvalue().index("<svg") :]
