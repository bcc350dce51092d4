"""Random numbers that depend on what they are for, and on nothing else.

Each stream is chosen by (seed, purpose, where in the run), so a resumed run needs no saved state, the number of processes
changes nothing, and an image does not depend on the batch in which it was sampled.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

STREAMS = 2  # the version of the streams; a change of any number that `generator` gives is another version
_FRESH = torch.Generator().get_state().numpy().view("<u8")  # of torch's CPU generator: the seed, a counter, the words ...
_WORDS = slice(3, 627)  # the 624 words of 32 bits that are the state of MT19937, each in 64 bits


def generator(seed: int, purpose: str, *index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator for one purpose at one place: `generator(seed, "noise", step)`."""
    return restart(torch.Generator(device), seed, purpose, *index)


def restart(generator: torch.Generator, seed: int, purpose: str, *index: int) -> torch.Generator:
    """Put a generator, such as torch's default one, at the start of the stream for one purpose at one place; return it.

    On the CPU torch keeps 32 bits of a seed, of which 50,000 images would use some twice. So the hash fills the whole state of
    MT19937 (Matsumoto & Nishimura 1998), 19,937 bits. A GPU's generator keeps 64 bits of its seed, and there is one a step.
    """
    stream = hashlib.shake_128(repr((seed, purpose, index)).encode())
    if generator.device.type != "cpu":
        return generator.manual_seed(int.from_bytes(stream.digest(8), "little"))
    digest = stream.digest(4 * 624 + 8)
    state = _FRESH.copy()
    state[0] = int.from_bytes(digest[-8:], "little")  # what `initial_seed()` tells
    state[_WORDS] = np.frombuffer(digest, "<u4", count=624)
    generator.set_state(torch.from_numpy(state.view(np.uint8)))
    return generator


def protocol_generator(purpose: str, *index: int) -> torch.Generator:
    """The generator for a choice that belongs to a protocol, such as which held-out images are evaluated.

    A metric's value depends on it, so it is the same whatever the seed and the version of the streams. There are a handful of
    these, for which the 32 bits that torch keeps of a seed are enough.
    """
    digest = hashlib.sha256(repr((0, purpose, index)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class ImageNoise:
    """Standard normal tensors for a batch of images, each image from a generator of its own.

    `noise()` gives the next [len(indices), *shape]; image i of the run gets the same numbers in any batch.
    """

    def __init__(self, seed: int, indices: range, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        self._generators = [generator(seed, "sample", index) for index in indices]
        self._shape = shape
        self._device = device

    def __call__(self) -> Tensor:
        # Sampled on the CPU on every machine: a sample's noise is then the same on a laptop and on a GPU.
        noise = torch.empty(len(self._generators), *self._shape)
        for image, generator in zip(noise, self._generators, strict=True):
            image.normal_(generator=generator)
        return noise.to(self._device)


@functools.lru_cache(maxsize=2)  # a batch may straddle two epochs
def epoch_order(seed: int, epoch: int, count: int) -> Tensor:
    """The order of the data in an epoch: a permutation of `count`, int64."""
    return torch.randperm(count, generator=generator(seed, "order", epoch))


def shuffled(seed: int, count: int, start: int, size: int) -> Iterator[Tensor]:
    """Batches of indices without end, from image number `start`, each of `size`; a batch may straddle two epochs."""
    position = start
    while True:
        pieces: list[Tensor] = []
        missing = size
        while missing:
            epoch, offset = divmod(position, count)
            if (not pieces and position == start) or offset == 0:
                order = epoch_order(seed, epoch, count)
            pieces.append(order[offset : offset + missing])
            missing -= len(pieces[-1])
            position += len(pieces[-1])
        yield torch.cat(pieces)
