"""What each step learns from: this process's share of the batch, from memory or streamed."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import torch
from torch import Tensor

from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.seeding import shuffled
from registry.datasets import Images, Split
from registry.datasets.streaming import StreamedImages
from registry.placing import sent


class Batches:
    """The images of a step, a function of (seed, step) whatever came before, wherever they lie.

    Those in memory lie on the device as uint8; streamed ones are read ahead by workers, each process its own share only.
    """

    def __init__(self, data: Images, labelled: bool, seed: int, batch: int, device: torch.device) -> None:
        self.data, self.seed, self.batch, self.device = data, seed, batch, device
        self.pixels = data.images.to(device) if isinstance(data, Split) else None
        self.labels = data.labels.to(device) if labelled and data.labels is not None else None
        self._ahead: Generator[Tensor, None, None] | None = None
        self._next = -1  # the step that `_ahead` gives next

    def __call__(self, step: int) -> tuple[Tensor, Tensor | None]:
        """uint8 [b, C, H, W] and labels [b] on the device."""
        chosen = next(self._shares(step))
        here = sent(chosen, self.device)
        labels = None if self.labels is None else self.labels[here]
        return (sent(self._streamed(step), self.device) if self.pixels is None else self.pixels[here]), labels

    def close(self) -> None:
        """End the workers; the next step would start others."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _shares(self, step: int) -> Iterator[Tensor]:
        """The numbers of this process's images, from that step on without end.

        It does not hold this object: once nobody holds it, its workers must end then, not when a cycle is found.
        """
        return map(distributed.share_of, shuffled(self.seed, len(self.data), step * self.batch, self.batch))

    def _streamed(self, step: int) -> Tensor:
        assert isinstance(self.data, StreamedImages)
        if self._ahead is None or step != self._next:
            self.close()
            self._ahead = self.data.in_order(chosen.tolist() for chosen in self._shares(step))
        self._next = step + 1
        return next(self._ahead)
