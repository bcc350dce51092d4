"""The mathematics of diffusion: plain tensors in, plain tensors out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from registry.guidance import ConditionalDenoise
from registry.path import NoisePath
from registry.samplers import Denoise, Denoised
from registry.targets import Target
from registry.weightings import Weighting

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def per_image(value: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1], to broadcast against images."""
    return value[:, None, None, None]


@dataclass(frozen=True)
class Diffusion:
    """A noise path and what the network regresses on it."""

    path: NoisePath
    target: Target

    def point(self, level: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at level [B], shaped [B, 1, 1, 1], in the precision of `like`."""
        alpha, sigma = self.path.at(level)
        return per_image(alpha).to(like.dtype), per_image(sigma).to(like.dtype)

    def predict(self, network: Network, x_t: Tensor, level: Tensor, y: Tensor | None) -> Tensor:
        """The network's raw output for x_t [B, C, H, W] at level [B]: [B, channels_out, H, W] float32."""
        alpha, sigma = self.point(level, like=x_t)
        scale, label = self.target.condition(alpha, sigma, (1000 * level / self.path.steps).to(x_t.dtype))
        return network(scale * x_t, label, y).float()

    def denoise(self, network: Network, x_t: Tensor, level: Tensor, y: Tensor | None) -> Denoised:
        """x0 and eps as the network sees them in x_t [B, C, H, W] at level [B]."""
        output = self.predict(network, x_t, level, y)
        channels = x_t.shape[1]
        prediction, extra = output[:, :channels], output[:, channels:]
        x0, eps = self.target.split(prediction, x_t, *self.point(level, like=x_t))
        return Denoised(x0, eps, extra if extra.shape[1] else None)

    def snr(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """The log SNR [B] at level [B], and its slope over the whole path, as weightings take them."""
        return self.path.log_snr(level), self.path.log_snr_slope(level) * (self.path.steps - 1)

    def weight(self, weighting: Weighting, level: Tensor, density: Tensor | None = None) -> Tensor:
        """The weight [B], float32, of the squared error of the target, converted from the space that `weighting` declares.

        `density` [B] over log SNR is that of the levels where the weighting is declared over log SNR, else None.
        """
        weight = weighting(*self.snr(level))
        if density is not None:
            weight = weight / density
        if weighting.space != "target":
            alpha, sigma = self.path.at(level)
            to_x0, to_eps = self.target.gain(alpha, sigma)
            weight = weight * (to_x0 if weighting.space == "x0" else to_eps) ** 2
        return weight.float()

    def conditional(self, network: Network) -> ConditionalDenoise:
        """`denoise` for a whole batch at one scalar level, as guidance takes it."""
        return lambda x, level, y: self.denoise(network, x, level.to(x.device).expand(len(x)), y)

    def sampling(self, denoise: ConditionalDenoise, y: Tensor | None, clip: bool | float) -> Denoise:
        """What a sampler calls: the class bound, x0 clipped if asked for, eps recomputed from the clipped x0.

        `clip` is true for [-1, 1], or the quantile of `thresholded`.
        """

        def clipped(x: Tensor, level: Tensor) -> Denoised:
            x0, eps, extra = denoise(x, level, y)
            if clip is False:
                return Denoised(x0, eps, extra)
            alpha, sigma = self.path.at(level)
            x0 = x0.clamp(-1, 1) if clip is True else thresholded(x0, clip)
            return Denoised(x0, (x - alpha * x0) / sigma, extra)

        return clipped


def thresholded(x0: Tensor, quantile: float) -> Tensor:
    """Dynamic thresholding: each image clipped to that quantile of its |x_0|, and shrunk to [-1, 1] where it is above 1.

    Saharia et al. 2022, Imagen, section 2.3.
    """
    limit = x0.abs().flatten(1).float().quantile(quantile, dim=1).clamp(min=1).to(x0.dtype)
    limit = limit[:, None, None, None]
    return x0.clamp(-limit, limit) / limit


def to_unit(images: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] -> uint8, rounded to the nearest level: the quantisation of every protocol."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
