"""start.json: the weights of another run that a run began from, and what they have cost so far."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StartingWeights:
    """Which weights a run begins from; images and seconds are those of all training that led to them, where known."""

    run: str
    weights: str
    sha256: str
    images: int | None
    seconds: float | None
    left_out: tuple[str, ...]  # tensors of the network that stay newly initialised: the other has none of that name and shape
    unused: tuple[str, ...]  # tensors of the other that found no place

    def describe(self) -> str:
        """One line for `check` and for the log."""
        cost = "" if self.images is None else f", {self.images:,} images"
        parts = [f"{len(names)} {what}" for names, what in ((self.left_out, "tensors newly initialised"),
                 (self.unused, "of its tensors find no place")) if names]  # fmt: skip
        return f"{self.weights} weights of {self.run}{cost}" + "".join(f"; {part}" for part in parts)


def cost_of(start: StartingWeights | None) -> tuple[int | None, float | None]:
    """Images and seconds of training before a run that starts so; none where it starts from no weights."""
    return (start.images, start.seconds) if start else (0, 0.0)
