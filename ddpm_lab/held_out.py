"""The denoising loss on images that were not learnt from: comparable across losses, targets and networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddpm_lab.build import Model
from ddpm_lab.device import Precision, autocast
from ddpm_lab.diffusion import per_image, to_unit
from ddpm_lab.rng import generator

EDGES = tuple(float(edge) for edge in range(-8, 9, 2))  # of the log SNR: beyond them a network has nothing left to learn
BATCH = 250


@torch.inference_mode()
def held_out_loss(model: Model, network: nn.Module, images: Tensor, labels: Tensor | None, precision: Precision) -> list[float]:
    """The mean squared error of eps in each bucket of the log SNR between EDGES, over uint8 images [N, C, H, W].

    Image i meets the same noise and the same place in a bucket whatever the network, the path or the loss it was trained
    with. A bucket that lies beyond the path's ends is judged at the end.
    """
    path, device = model.diffusion.path, next(network.parameters()).device
    sums = torch.zeros(len(EDGES) - 1, dtype=torch.float64)
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
                found = model.diffusion.denoise(network, alpha * x0 + sigma * eps, level, y)
            sums[bucket] += (found.eps - eps).square().flatten(1).mean(dim=1).sum().cpu()
    return (sums / len(images)).tolist()
