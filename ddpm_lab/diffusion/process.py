"""The mathematics of diffusion: plain tensors in, plain tensors out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from registry.guidance import ConditionalDenoise
from registry.path import NoisePath
from registry.placing import CPU, exact_device, sent
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
    second_level: bool = False  # whether the network is told to which level its prediction is to lead
    self_conditioning: bool = False  # whether it is shown its last estimate of x_0 beside x_t (Chen et al. 2023)
    device: torch.device = CPU  # of the images

    @property
    def exact(self) -> torch.device:
        """Where levels lie in training, and all else that is float64."""
        return exact_device(self.device)

    def point(self, level: Tensor, like: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """alpha and sigma at level [B], shaped [B, 1, 1, 1], as `like` is, or float32 beside the images; 1, 0 below level 0."""
        alpha, sigma = self.path.at(level.clamp(min=0))
        clean = level < 0
        alpha, sigma = torch.where(clean, 1.0, alpha), torch.where(clean, 0.0, sigma)
        dtype, device = (torch.float32, self.device) if like is None else (like.dtype, like.device)
        return sent(per_image(alpha).to(dtype), device), sent(per_image(sigma).to(dtype), device)

    def predict(
        self, network: Network, x_t: Tensor, level: Tensor, y: Tensor | None, to: Tensor | None = None,
        estimate: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The network's raw output for x_t [B, C, H, W] at level [B]: [B, channels_out, H, W] float32.

        `to` [B] is the level that it is to lead to, where the network takes one; without it, its own. `estimate` is that of x_0
        from before, where it is shown one; without it, zeros.
        """
        alpha, sigma = self.point(level, like=x_t)
        scale, label = self.target.condition(alpha, sigma, self._label(level, x_t))
        if self.second_level:
            gap = torch.zeros_like(level) if to is None else level - to
            label = torch.stack([label, self._label(gap, x_t)], dim=1)
        shown = scale * x_t
        if self.self_conditioning:
            shown = torch.cat([shown, torch.zeros_like(x_t) if estimate is None else estimate.to(x_t.dtype)], dim=1)
        return network(shown, label, y).float()

    def _label(self, level: Tensor, like: Tensor) -> Tensor:
        return sent((1000 * level / self.path.steps).to(like.dtype), like.device)

    def denoise(
        self, network: Network, x_t: Tensor, level: Tensor, y: Tensor | None, to: Tensor | None = None,
        estimate: Tensor | None = None,
    ) -> Denoised:  # fmt: skip
        """x0 and eps as the network sees them in x_t [B, C, H, W] at level [B]."""
        output = self.predict(network, x_t, level, y, to, estimate)
        channels = x_t.shape[1]
        prediction, extra = output[:, :channels], output[:, channels:]
        x0, eps = self.target.split(prediction, x_t, *self.point(level, like=x_t))
        return Denoised(x0, eps, extra if extra.shape[1] else None)

    def snr(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """The log SNR [B] at level [B], and its slope over the whole path, as weightings take them."""
        return self.path.log_snr(level), self.path.log_snr_slope(level) * (self.path.steps - 1)

    def weight(
        self, weighting: Weighting, level: Tensor, density: Tensor | None = None, space: Target | None = None
    ) -> Tensor:  # fmt: skip
        """The weight [B], float32, of the squared error in `space` (the target's own where none is given), converted from the
        space that `weighting` declares.

        `density` [B] over log SNR is that of the levels where the weighting is declared over log SNR, else None.
        """
        weight = weighting(*self.snr(level))
        if density is not None:
            weight = weight / density
        if weighting.space != "target":
            alpha, sigma = self.path.at(level)
            to_x0, to_eps = (space or self.target).gain(alpha, sigma)
            weight = weight * (to_x0 if weighting.space == "x0" else to_eps) ** 2
        return weight.float()

    def conditional(
        self, network: Network, to: Tensor | None = None, estimates: list[Tensor] | None = None
    ) -> ConditionalDenoise:  # fmt: skip
        """`denoise` for a whole batch at one scalar level, as guidance takes it, on the way to the scalar level `to`.

        The last of `estimates` is shown to the network.
        """

        def denoise(x: Tensor, level: Tensor, y: Tensor | None) -> Denoised:
            end = None if to is None else to.expand(len(x))
            estimate = estimates[-1] if estimates else None
            return self.denoise(network, x, level.expand(len(x)), y, end, estimate)

        return denoise

    def sampling(
        self, denoise: ConditionalDenoise, y: Tensor | None, clip: bool | float,
        leading: Callable[[Tensor], ConditionalDenoise] | None = None, estimates: list[Tensor] | None = None,
    ) -> Denoise:  # fmt: skip
        """What a sampler calls: the class bound, x0 clipped if asked for, eps recomputed from the clipped x0.

        `clip` is true for [-1, 1], or the quantile of `thresholded`. `leading(to)` is the denoiser on the way to that level,
        where there is one; the x0 of a jump to a noisy image is no image, and is left alone. `estimates` gets each x0, in the
        place of the one before.
        """

        def clipped(x: Tensor, level: Tensor, to: Tensor | None = None) -> Denoised:
            chosen = denoise if to is None or leading is None else leading(to)
            x0, eps, extra = chosen(x, level, y)
            if clip is not False and (to is None or to < 0):
                alpha, sigma = self.path.at(level)
                x0 = x0.clamp(-1, 1) if clip is True else thresholded(x0, clip)
                eps = (x - alpha * x0) / sigma
            if estimates is not None:
                estimates[:] = [x0]
            return Denoised(x0, eps, extra)

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
