"""Variances: the noise of a reverse step t -> s. A part is built with nothing and gives a `Variance`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from registry.registry import Registry, stock
from registry.traits import Traits


class Variance(ABC):
    """The variance of p(x_s | x_t), [B, 1, 1, 1] or a scalar, from the two points of the path.

    `extra_channels` says how many channels the network predicts for it, per image channel; they come back as `extra`.
    `bound` is the share of the variational bound in the loss, from which those channels learn.
    """

    extra_channels = 0
    bound = 0.0

    @abstractmethod
    def __call__(self, alpha_t: Tensor, sigma_t: Tensor, alpha_s: Tensor, sigma_s: Tensor, extra: Tensor | None) -> Tensor:
        """The variance of the step."""


def forward_variance(alpha_t: Tensor, sigma_t: Tensor, alpha_s: Tensor, sigma_s: Tensor) -> Tensor:
    """sigma_{t|s}^2 = sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2 (Kingma et al. 2021, eq. 21): DDPM's beta_t."""
    return sigma_t**2 - (alpha_t / alpha_s) ** 2 * sigma_s**2


VARIANCES: Registry[Callable[[], Variance], Traits] = Registry("variance", runtime=())

stock(__name__, __path__)
