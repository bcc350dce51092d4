"""The loss of a batch, on one page: what is random about a step, and what it is weighed by."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ddpm_lab.config.schema import Train
from ddpm_lab.diffusion.model import Model, Objective
from ddpm_lab.diffusion.process import Network, to_unit
from ddpm_lab.diffusion.vlb import bound_term
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.seeding import generator
from registry.samplers import Denoised


class Batch(NamedTuple):
    """This process's share of a global batch, with all that is random about its step."""

    x0: Tensor  # [B, C, H, W] in [-1, 1]
    y: Tensor | None  # [B]; K where the label was dropped
    eps: Tensor  # [B, C, H, W]
    level: Tensor  # [B]
    importance: Tensor  # [B]


def draw_batch(
    images: Tensor, labels: Tensor | None, no_class: int, objective: Objective, train: Train, seed: int, step: int
) -> Batch:
    """The batch of a step from uint8 images [B, C, H, W]: a function of (seed, step), whatever came before.

    Images and labels are this process's share; what is random is drawn for the global batch, and then shared out alike.
    `no_class` takes the place of a dropped label.
    """
    device, count, share = images.device, len(images) * distributed.size(), distributed.share_of

    def rng(purpose: str) -> torch.Generator:
        return generator(seed, purpose, step, device=device)

    x0 = to_unit(images)
    if train.flip:
        flip = share(torch.rand(count, 1, 1, 1, generator=rng("flip"), device=device) < 0.5)
        x0 = torch.where(flip, x0.flip(3), x0)
    if labels is not None:
        drop = share(torch.rand(count, generator=rng("label dropout"), device=device) < train.label_dropout)
        labels = labels.masked_fill(drop, no_class)
    eps = share(torch.randn(count, *x0.shape[1:], generator=rng("noise"), device=device))
    level, importance = objective.levels(count, rng("level"))
    return Batch(x0, labels, eps, share(level), share(importance))


def training_loss(model: Model, objective: Objective, network: Network, batch: Batch) -> Tensor:
    """The weighted loss of each image of a batch (Ho et al. 2020, algorithm 1): [B]. The step weighs by importance."""
    x0, y, eps, level, importance = batch
    diffusion, variance, channels = model.diffusion, model.variance, x0.shape[1]
    alpha, sigma = diffusion.point(level, like=x0)
    x_t = alpha * x0 + sigma * eps  # Kingma et al. 2021, eq. 1
    output = diffusion.predict(network, x_t, level, y)
    prediction, extra = output[:, :channels], output[:, channels:]
    target = diffusion.target.of(x0, eps, alpha, sigma)
    loss = objective.loss(prediction, target).flatten(1).mean(dim=1)  # [B, C, H, W] -> [B]
    if isinstance(objective.weighting, nn.Module):
        log_variance = objective.weighting(*diffusion.snr(level))
        loss = loss / log_variance.exp() + log_variance  # Karras et al. 2024, EDM2, appendix B
    else:
        loss = objective.weight(diffusion, level, importance) * loss
    if variance.bound:
        # Only the variance learns from the bound (Nichol & Dhariwal 2021, section 3.1).
        seen = Denoised(*diffusion.target.split(prediction.detach(), x_t, alpha, sigma), extra)
        weight = variance.bound * objective.bound_weight(diffusion.path, level, importance)
        loss = loss + weight * bound_term(diffusion, variance, x0, x_t, level, seen)
    return loss
