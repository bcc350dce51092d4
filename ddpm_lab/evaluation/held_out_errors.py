"""Metrics of the network itself: how well it predicts the noise in images that were not learnt from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddpm_lab.diffusion.model import Model
from ddpm_lab.diffusion.process import per_image, to_unit
from ddpm_lab.diffusion.sampling import ImageSampler
from ddpm_lab.evaluation.accumulator import gather, numbered
from ddpm_lab.evaluation.values import measurements
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.device import Precision, autocast
from ddpm_lab.runtime.seeding import protocol_generator
from ddpm_lab.storage.measurement import Generation, Measurement, Protocol
from registry.datasets import ImageSet
from registry.metrics import OfNetwork
from registry.metrics.buckets import EDGES

BATCH = 250
JUDGED = 2000  # held-out images, at most


def of_network(drawing: ImageSampler, data: ImageSet, n: int, generation: Generation, wanted: list[str]) -> list[Measurement]:
    """The wanted metrics of the network that images are sampled from, on held-out images, n at most."""
    chosen = torch.randperm(len(data.test), generator=protocol_generator("held out"))[: min(n, JUDGED)]
    labels = None if data.test.labels is None else data.test.labels[chosen]
    errors = held_out_errors(drawing.model, drawing.network, data.test.rows(chosen), labels, drawing.precision)
    path = drawing.model.diffusion.path
    high, low = path.log_snr(torch.tensor([0.0, path.steps - 1.0], device=path.angle.device)).tolist()

    def protocol(words: str) -> Protocol:
        reference = f"{data.name}/test, {len(data.test)} images"
        return Protocol(words, "network", "none", "none", "none", reference, data.test.hash, len(errors))

    made_by = {key: generation[key] for key in ("weights", "precision")}
    return measurements(OfNetwork(errors, (low, high)), wanted, protocol, made_by)


def held_out_errors(model: Model, network: nn.Module, images: Tensor, labels: Tensor | None, precision: Precision) -> Tensor:
    """The squared error of eps, over uint8 images [N, C, H, W], in each bucket of the log SNR: [N, buckets]."""
    errors = HeldOutErrors(model, network, labels, precision)
    gather([errors], numbered(images.split(BATCH)), len(images), "held-out images", passing=True)
    return torch.cat(errors.found)


class HeldOutErrors:
    """The squared error of eps, mean over the pixels, in each bucket of the log SNR between EDGES.

    Image i meets the same noise and the same place in a bucket whatever the network, the path or the loss it was trained
    with. Where a bucket lies beyond the path's ends it is evaluated at the end.
    """

    def __init__(self, model: Model, network: nn.Module, labels: Tensor | None, precision: Precision) -> None:
        self.model, self.network, self.labels, self.precision = model, network, labels, precision
        self.found: list[Tensor] = []  # [b, buckets] float64, of each batch

    @torch.inference_mode()
    def add(self, start: int, images: Tensor) -> None:
        """uint8 images [B, C, H, W], the first of number `start`."""
        diffusion, device = self.model.diffusion, next(self.network.parameters()).device
        path, x0 = diffusion.path, to_unit(images.to(device))
        labels = None if self.model.classes is None else self.labels
        y = None if labels is None else labels[start : start + len(x0)].to(device)
        rng = protocol_generator("held out", start)
        eps = torch.randn(x0.shape, generator=rng).to(device)
        place = torch.rand(len(x0), generator=rng, dtype=torch.float64).to(device)
        found = torch.zeros(len(x0), len(EDGES) - 1, dtype=torch.float64)
        for bucket in range(len(EDGES) - 1):
            log_snr = EDGES[bucket] + place * (EDGES[bucket + 1] - EDGES[bucket])
            level = path.level(log_snr).clamp(0, path.steps - 1)
            alpha, sigma = (per_image(value).to(x0.dtype) for value in path.at(level))
            with autocast(self.precision, device):
                denoised = diffusion.denoise(self.network, alpha * x0 + sigma * eps, level, y)
            error = (denoised.eps - eps).square().flatten(1).mean(dim=1)
            found[:, bucket] = error.double().cpu()
        self.found.append(found)

    def merge(self) -> None:
        """The main process gets all."""
        self.found = distributed.collected(self.found)
