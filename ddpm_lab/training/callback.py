"""What happens beside training, and how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Callback:
    """A call of `call(images)` whenever training crosses a multiple of `every` images; the trainer is at rest meanwhile.

    In several processes all of them are called.
    """

    call: Callable[[int], object]
    every: int | None  # images; None: never
    at_end: bool = False  # after the last step too; else not then, because a run ends with its own samples and evaluation
    on_stop: bool = False  # before an interruption too

    def is_due(self, before: int, images: int, total: int, stopping: bool) -> bool:
        """Whether to call it after the step that led from `before` images to `images`, of `total` in all."""
        if stopping and self.on_stop:
            return True
        if images >= total:
            return self.at_end
        return self.every is not None and before // self.every != images // self.every
