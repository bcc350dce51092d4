"""The loss of a batch: what is random about a step, and what the objective makes of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddpm_lab.config.schema import Train
from ddpm_lab.diffusion.model import Model, Objective
from ddpm_lab.diffusion.process import Network, to_unit
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.seeding import generator
from ddpm_lab.training.learner import START, ModelLearner, Moment
from registry.objectives import Batch
from registry.placing import exact_device


def make_batch(
    images: Tensor, labels: Tensor | None, no_class: int, objective: Objective, train: Train, seed: int, step: int
) -> Batch:
    """The batch of a step from uint8 images [B, C, H, W]: a function of (seed, step), whatever came before.

    Images and labels are this process's share; what is random is sampled for the global batch, and then shared out alike.
    `no_class` takes the place of a dropped label.
    """
    device, count, share = images.device, len(images) * distributed.size(), distributed.share_of

    def rng(purpose: str) -> torch.Generator:
        return generator(seed, purpose, step, device=device)

    x0 = to_unit(images)
    if train.flip:
        flip = share(torch.rand(count, 1, 1, 1, generator=rng("flip"), device=device) < 0.5)
        x0 = torch.where(flip, x0.flip(3), x0)
    classes = labels
    if labels is not None:
        drop = share(torch.rand(count, generator=rng("label dropout"), device=device) < train.label_dropout)
        labels = labels.masked_fill(drop, no_class)
    eps = torch.randn(count, *x0.shape[1:], generator=rng("noise"), device=device)
    if objective.coupling is None:
        eps = share(eps)
    else:  # pairs are made in the global batch, so that the number of processes changes none
        everyone = None if classes is None else distributed.in_turn(classes)
        x0, eps = map(share, objective.coupling(distributed.in_turn(x0), eps, everyone, rng("coupling")))
    # Levels are float64, which not every device has.
    level, importance = objective.levels(count, generator(seed, "level", step, device=exact_device(device)))
    return Batch(x0, labels, eps, share(level), share(importance))


def training_loss(
    model: Model, objective: Objective, network: Network, batch: Batch, moment: Moment = START,
    averaged: nn.Module | None = None,
) -> Tensor:  # fmt: skip
    """The loss of each image of a batch, as the objective has it: [B]. The step weighs by importance.

    `network` is the model's as it is to be called, `averaged` the objective's teacher.
    """
    return objective.compute(ModelLearner(model, objective, network, averaged, moment), batch)
