"""What a part may declare of itself beside its signature, so that the lab asks no part by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from registry.path import NoisePath

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """What the advice of a part may look at: the rest of the recipe, in numbers."""

    path: NoisePath
    target: str  # its name, for the text
    labels: Tensor  # [T], the noise label that the network gets at each level
    images: int  # that the run trains on
    steps: int  # of the sampler


def no_advice(options: Options, setting: Setting) -> Iterable[str]:
    """Nothing to say."""
    return ()


@dataclass(frozen=True)
class Traits:
    """What a part of any registry may declare: `advice(options, setting)` gives warnings of what is probably unintended.

    `diffusers` is the name under which that library computes the same, if it does: a target's `prediction_type`, a variance's
    `variance_type`, the class of a scheduler, or that of a network whose layers have the names that `ddpm_lab.export` knows.
    `trial` are options that tests build the part with: those that it needs, and sizes that make it quick.
    """

    advice: Callable[[Options, Setting], Iterable[str]] = no_advice
    diffusers: str | None = None
    trial: Options = field(default_factory=dict)
