"""Features: what a Frechet distance is measured in. A part is called with nothing and gives an `Extractor`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from registry.registry import Registry, stock
from registry.traits import Traits

FEATURES: Registry[Callable[[], Extractor], Traits] = Registry("features", runtime=())


class MadeFor(NamedTuple):
    """The images that an extractor was made for, where None is any. On others its distances may mean little, and say so."""

    size: tuple[int, int] | None = None  # H, W
    channels: int | None = None
    data: str | None = None  # the name of a data set

    def fits(self, image_shape: tuple[int, int, int], data: str) -> bool:
        """Whether images [C, H, W] of a data set of that name are such images."""
        channels, *size = image_shape
        return self.size in (None, tuple(size)) and self.channels in (None, channels) and self.data in (None, data)

    def __str__(self) -> str:
        size = f"{self.size[0]} x {self.size[1]} " if self.size else ""
        kind = {None: "", 1: "gray ", 3: "RGB "}.get(self.channels, f"{self.channels}-channel ")
        return f"{size}{kind}images{f' of {self.data}' if self.data else ''}"


def made_for(extractor: Any) -> MadeFor:
    """What a part, or the extractor that it gives, says in its attribute `made_for`; any images where it says nothing."""
    found: MadeFor = getattr(extractor, "made_for", MadeFor())
    return found


class Extractor(Protocol):
    """uint8 images [B, C, H, W] -> (features [B, D], logits [B, K] or None), without gradient, in evaluation mode.

    A part that was made for some images only says which, in a class attribute `made_for: MadeFor`.
    """

    dimension: int
    class_names: tuple[str, ...] | None  # of the logits, where they are the classes of a data set of the lab's
    classes: int | None  # K
    hash: str  # of the weights, SHA-256
    resize: str  # the rule by which images become the network's input, in words

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]: ...


stock(__name__, __path__)
