"""The coordinates of the straight path, z = x_t / (alpha + sigma) and tau = sigma / (alpha + sigma), on every path."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from registry.objectives import CLEAN, Learner

Predict = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]


def tau(learner: Learner, level: Tensor) -> Tensor:
    """sigma / (alpha + sigma) [B, 1, 1, 1] at a level."""
    alpha, sigma = learner.point(level)
    return sigma / (alpha + sigma)


def velocity(learner: Learner, predict: Predict, z: Tensor, level: Tensor, y: Tensor | None, to: Tensor | None) -> Tensor:
    """What a network says of dz / dtau, the mean of it from `level` to `to`: eps - x_0 [B, C, H, W]."""
    alpha, sigma = learner.point(level)
    x_t = (alpha + sigma) * z
    x0, eps = learner.split(predict(x_t, level, y, to), x_t, level)
    return eps - x0


def level_at(learner: Learner, tau: Tensor) -> Tensor:
    """The level [B] of a tau [B]; CLEAN at 0, and no less than the path's first level elsewhere."""
    tau = tau.double()
    level = learner.path.level(2 * (torch.log1p(-tau) - torch.log(tau)))
    return torch.where(tau <= 0, torch.full_like(level, CLEAN), level)
