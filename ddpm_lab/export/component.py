"""One folder of a diffusers pipeline: a class by name, its configuration, its weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ddpm_lab.storage.json_text import Json


@dataclass(frozen=True)
class Component:
    """`folder` is its name in the pipeline; weights are named as diffusers names them."""

    folder: str
    class_name: str
    config: Json  # as its class at diffusers takes it
    weights: dict[str, Tensor] = field(default_factory=dict)


class Inexpressible(ValueError):
    """diffusers has nothing that computes the same; the text says what stands in the way."""
