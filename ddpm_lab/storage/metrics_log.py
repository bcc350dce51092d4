"""metrics.jsonl: what a run measured, a row for each moment of its training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from ddpm_lab.storage.json_text import from_json, to_json


@dataclass(frozen=True)
class Picture:
    """A PNG that a row tells of, by its path in the run's folder."""

    file: str
    caption: str | None = None


@dataclass(frozen=True)
class Row:
    """Numbers by name after so many images, such as `loss` and `FID/fashion_cnn`, None for one that is not finite; pictures.

    Which names there are is the run's affair, so there is no version of it.
    """

    images: int
    values: Mapping[str, float | None] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)


def series(rows: Iterable[Row], name: str) -> list[tuple[int, float]]:
    """The values of that name over training, each with the number of images."""
    return [(row.images, value) for row in rows if (value := row.values.get(name)) is not None]


def to_line(row: Row) -> str:
    """`{"images": 640, "loss": 0.07}`, `{"images": 640, "samples": {"file": ..., "caption": ...}}`."""
    return to_json({"images": row.images, **row.values, **{name: asdict(one) for name, one in row.pictures.items()}}) + "\n"


def from_line(line: str) -> Row:
    """The inverse.

    Raises:
        ValueError: it is not such a row.
    """
    told = from_json(line)
    if not isinstance(told, dict) or type(images := told.pop("images", None)) is not int:
        raise ValueError("not a row of metrics")
    numbers = {name: value for name, value in told.items() if value is None or isinstance(value, (int, float))}
    named = {name: value for name, value in told.items() if isinstance(value, dict) and isinstance(value.get("file"), str)}
    return Row(images, numbers, {name: Picture(value["file"], value.get("caption")) for name, value in named.items()})
