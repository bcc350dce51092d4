"""Memorisation: whether samples lie nearer to the training images than images that were never learnt from."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ddpm_lab.evaluation.measurement import Protocol, Record
from ddpm_lab.evaluation.prdc import nearest_distances
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.seeding import protocol_generator
from registry.datasets import ImageSet

JUDGED = 1000  # images, at most: a thousand distances say what ten thousand would
BATCH = 2000


class PixelSample:
    """At most JUDGED of the images, a fixed random choice."""

    def __init__(self, total: int) -> None:
        self.place = torch.randperm(total, generator=protocol_generator("judged for memorisation"))
        self.images: list[Tensor] = []

    def add(self, start: int, images: Tensor) -> None:
        """uint8 images [B, C, H, W] from number `start` on."""
        self.images.append(images[self.place[start : start + len(images)] < JUDGED].cpu())

    def over_processes(self) -> None:
        """The main process gets all."""
        self.images = distributed.collected(self.images)


class Memorisation:
    """Distances in pixels to the nearest training image, of samples and of as many held-out images."""

    def __init__(self, data: ImageSet, device: torch.device) -> None:
        self.data, self.device = data, device

    def results(self, sample: PixelSample, generation: dict[str, Any]) -> list[Record]:
        """One record: how often a sample is nearer to a training image than a held-out image is.

        That is the area under the curve of Mann and Whitney's test, on which Meehan et al. 2020 build theirs: one half where
        samples are as far away as new images, towards 1 where they copy. Blurred or plain samples are near to something
        too; only beside a good FID is it copying.
        """
        from scipy import stats  # slow to import

        images = torch.cat(sample.images)
        if images.shape[1:] != self.data.image_shape:
            sizes = f"{list(images.shape[1:])} and {list(self.data.image_shape)}"
            say(f"memorisation is left out: there is no distance in pixels between images of {sizes}")
            return []
        ours, theirs = self._distances(images), self._held_out
        value = float(stats.mannwhitneyu(theirs.numpy(), ours.numpy()).statistic) / (len(ours) * len(theirs))
        protocol = Protocol(
            "memorisation (Euclidean, nearest training image)", "pixels", "none", "none", "uint8, rounded to nearest",
            f"{self.data.name}/train, {len(self.data.train)} images; {len(theirs)} of {len(self.data.test)} held out",
            f"{self.data.train.hash} {self.data.test.hash}", len(images),
        )  # fmt: skip
        detail = {"median distance": float(ours.median()), "median distance of held-out images": float(theirs.median())}
        return [
            {
                "metric": "memorisation", "extractor": "pixels", "value": value, "interval": None, "n": len(images),
                "floor": 0.5, "floor_interval": None, "floor_n": len(theirs), "detail": detail,
                "fingerprint": protocol.fingerprint, "protocol": asdict(protocol), "generation": generation,
            }
        ]  # fmt: skip

    @cached_property
    def _held_out(self) -> Tensor:
        chosen = torch.randperm(len(self.data.test), generator=protocol_generator("memorisation"))[:JUDGED]
        return self._distances(self.data.test.rows(chosen))

    def _distances(self, images: Tensor) -> Tensor:
        """[N], in units of one pixel's whole range."""
        return nearest_distances(images.to(self.device), self.data.train.batches(BATCH)).cpu() / 255
