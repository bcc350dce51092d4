"""Metrics of the network itself: how well it predicts the noise in images that were not learnt from."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from ddpm_lab.diffusion.model import Model
from ddpm_lab.diffusion.process import to_unit
from ddpm_lab.diffusion.sampling import ImageSampler
from ddpm_lab.evaluation.values import measurements
from ddpm_lab.runtime.console import Progress
from ddpm_lab.runtime.device import Precision, autocast
from ddpm_lab.runtime.seeding import protocol_generator
from ddpm_lab.storage.measurement import Generation, Measurement, Protocol
from registry.datasets import ImageSet
from registry.metrics import OfNetwork
from registry.metrics.buckets import EDGES

BATCH = 250
MOST = 2000  # held-out images, at most


def of_network(sampler: ImageSampler, data: ImageSet, n: int, generation: Generation, wanted: list[str]) -> list[Measurement]:
    """The wanted metrics of the network that images are sampled from, on held-out images, n at most."""
    chosen = torch.randperm(len(data.test), generator=protocol_generator("held out"))[: min(n, MOST)]
    labels = None if data.test.labels is None else data.test.labels[chosen]
    errors = held_out_errors(sampler.model, sampler.network, data.test.rows(chosen), labels, sampler.precision)
    path = sampler.model.diffusion.path
    high, low = path.log_snr(torch.tensor([0.0, path.steps - 1.0])).tolist()

    def protocol(words: str) -> Protocol:
        reference = f"{data.name}/test, {len(data.test)} images"
        return Protocol(words, "network", "none", "none", "none", reference, data.test.hash, len(errors))

    made_by = {key: generation[key] for key in ("weights", "precision")}
    return measurements(OfNetwork(errors, (low, high)), wanted, protocol, made_by)


@torch.inference_mode()
def held_out_errors(model: Model, network: nn.Module, images: Tensor, labels: Tensor | None, precision: Precision) -> Tensor:
    """The squared error of eps, mean over the pixels, in each bucket of the log SNR between EDGES: [N, buckets] float64.

    Image i of the uint8 images [N, C, H, W] meets the same noise and the same place in a bucket whatever the network, the path
    or the loss it was trained with. Where a bucket lies beyond the path's ends it is evaluated at the end.
    """
    diffusion, device = model.diffusion, next(network.parameters()).device
    path, errors = diffusion.path, torch.zeros(len(images), len(EDGES) - 1, dtype=torch.float64)
    with Progress("held-out images", len(images), passing=True) as bar:
        for start in range(0, len(images), BATCH):
            x0 = to_unit(images[start : start + BATCH].to(device))
            here = slice(start, start + len(x0))
            y = None if labels is None or model.classes is None else labels[here].to(device)
            rng = protocol_generator("held out", start)
            eps = torch.randn(x0.shape, generator=rng).to(device)
            place = torch.rand(len(x0), generator=rng, dtype=torch.float64)
            for bucket, (low, high) in enumerate(pairwise(EDGES)):
                level = path.level(low + place * (high - low)).clamp(0, path.steps - 1)
                alpha, sigma = diffusion.point(level, like=x0)
                with autocast(precision, device):
                    denoised = diffusion.denoise(network, alpha * x0 + sigma * eps, level, y)
                errors[here, bucket] = (denoised.eps - eps).square().flatten(1).mean(dim=1).cpu().double()
            bar.advance(len(x0))
    return errors
