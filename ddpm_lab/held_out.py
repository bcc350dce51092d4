"""The denoising loss on images that were not learnt from: comparable across losses, targets and networks."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_lab.build import Model
from ddpm_lab.device import Precision, autocast
from ddpm_lab.diffusion import per_image, to_unit
from ddpm_lab.records import Protocol, Record
from ddpm_lab.rng import generator
from registry.datasets import ImageSet

EDGES = tuple(float(edge) for edge in range(-8, 9, 2))  # of the log SNR: beyond them a network has nothing left to learn
BATCH = 250


JUDGED = 2000  # held-out images, at most


def held_out_record(
    model: Model, network: nn.Module, data: ImageSet, n: int, precision: Precision, generation: dict[str, Any]
) -> Record:
    """The loss on held-out images, n at most, as a record: its mean over the buckets, the interval over images, each bucket."""
    chosen = torch.randperm(len(data.test), generator=generator(0, "held out"))[: min(n, JUDGED)]
    labels = None if data.test.labels is None else data.test.labels[chosen]
    losses = held_out_loss(model, network, data.test.rows(chosen), labels, precision)
    each, mean = losses.mean(dim=1), float(losses.mean())
    half = 1.96 * float(each.std()) / math.sqrt(len(each)) if len(each) > 1 else None
    interval = None if half is None else (mean - half, mean + half)
    protocol = Protocol(
        f"held-out loss (squared error of eps, log SNR {EDGES[0]:g} to {EDGES[-1]:g} in {len(EDGES) - 1} buckets)", "network",
        "none", "none", "none", f"{data.name}/test, {len(data.test)} images", data.test.hash, len(each),
    )  # fmt: skip
    buckets = {f"{low:g} to {high:g}": float(loss) for low, high, loss in zip(EDGES, EDGES[1:], losses.mean(0), strict=False)}
    return {
        "metric": "held_out_loss", "extractor": "network", "value": mean, "interval": interval, "n": len(each),
        "floor": None, "floor_interval": None, "floor_n": 0, "detail": buckets,
        "fingerprint": protocol.fingerprint, "protocol": asdict(protocol),
        "generation": {key: generation[key] for key in ("weights", "precision")},
    }  # fmt: skip


@torch.inference_mode()
def held_out_loss(model: Model, network: nn.Module, images: Tensor, labels: Tensor | None, precision: Precision) -> Tensor:
    """The squared error of eps, over uint8 images [N, C, H, W], in each bucket of the log SNR between EDGES: [N, buckets].

    Image i meets the same noise and the same place in a bucket whatever the network, the path or the loss it was trained
    with. A bucket that lies beyond the path's ends is judged at the end.
    """
    path, device = model.diffusion.path, next(network.parameters()).device
    found = torch.zeros(len(images), len(EDGES) - 1, dtype=torch.float64)
    for start in range(0, len(images), BATCH):
        x0 = to_unit(images[start : start + BATCH].to(device))
        y = None if labels is None or model.classes is None else labels[start : start + BATCH].to(device)
        rng = generator(0, "held out", start)
        eps = torch.randn(x0.shape, generator=rng).to(device)
        place = torch.rand(len(x0), generator=rng, dtype=torch.float64).to(device)
        for bucket in range(len(EDGES) - 1):
            log_snr = EDGES[bucket] + place * (EDGES[bucket + 1] - EDGES[bucket])
            level = path.level(log_snr).clamp(0, path.steps - 1)
            alpha, sigma = (per_image(value).to(x0.dtype) for value in path.at(level))
            with autocast(precision, device):
                denoised = model.diffusion.denoise(network, alpha * x0 + sigma * eps, level, y)
            error = (denoised.eps - eps).square().flatten(1).mean(dim=1)
            found[start : start + len(x0), bucket] = error.double().cpu()
    return found
