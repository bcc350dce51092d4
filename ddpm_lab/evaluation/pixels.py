"""Metrics in pixels: a thousand of the images, beside the training images and as many held-out ones."""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm_lab.evaluation.values import measurements, values
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.seeding import protocol_generator
from ddpm_lab.storage.measurement import Generation, Measurement, Protocol
from registry.datasets import ImageSet
from registry.metrics import METRICS, InPixels

MOST = 1000  # images, at most: a thousand distances say what ten thousand would
BATCH = 2000
QUANTISATION = "uint8, rounded to nearest"


class PixelSample:
    """At most MOST of the images, a fixed random choice."""

    def __init__(self, total: int) -> None:
        # The words are part of the protocol: others would choose other images.
        self.place = torch.randperm(total, generator=protocol_generator("judged for memorisation"))
        self.images: list[Tensor] = []

    def add(self, start: int, images: Tensor) -> None:
        """uint8 images [B, C, H, W] from number `start` on."""
        self.images.append(images[self.place[start : start + len(images)] < MOST].cpu())

    def merge(self) -> None:
        """The main process gets all."""
        self.images = distributed.collected(self.images)


def in_pixels(
    sample: PixelSample, data: ImageSet, device: torch.device, generation: Generation, wanted: list[str]
) -> list[Measurement]:
    """The wanted metrics of the sample; none where it has another shape than the data, and that is said."""
    images, test = torch.cat(sample.images), data.test
    if images.shape[1:] != data.image_shape:
        sizes = f"{list(images.shape[1:])} and {list(data.image_shape)}"
        say(f"{', '.join(wanted)}: left out, for images of {sizes} cannot be compared pixel by pixel")
        return []
    held_out = test.rows(torch.randperm(len(test), generator=protocol_generator("memorisation"))[:MOST])
    seen = InPixels(images.to(device), held_out.to(device), lambda: data.train.batches(BATCH))

    def protocol(words: str) -> Protocol:
        return Protocol(
            words, "pixels", "none", "none", QUANTISATION,
            f"{data.name}/train, {len(data.train)} images; {len(held_out)} of {len(test)} held out",
            f"{data.train.hash} {test.hash}", len(images),
        )  # fmt: skip

    computed = [metric for metric in wanted if METRICS.part(metric).traits.floor is True]
    floors = values(InPixels(seen.held_out, seen.held_out, seen.training), computed), len(held_out)
    return measurements(seen, wanted, protocol, generation, floors)
