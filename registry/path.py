"""NoisePath: how signal and noise share an image, level by level; the one thing that schedules, targets and samplers share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from registry.curve import CURVES, Curve

Kind = Literal["variance_preserving", "flow", "variance_exploding"]


class NoisePath:
    """The curve x_t = alpha x_0 + sigma eps, given by T knots and followed between them.

    A point of the curve is held as its angle phi = atan2(sigma, alpha) in [0, pi/2], which stays finite at zero
    signal and at zero noise, and grows with the level. Between knots the angle is interpolated linearly, so every
    point lies on the curve exactly. Levels are real numbers in [0, T - 1], 0 the least noisy. All arithmetic is float64, on
    the device where the level lies.
    """

    def __init__(self, angle: Tensor, kind: Kind | Curve) -> None:
        """angle: [T] knots in radians, strictly increasing. kind: a curve, or the name of one of `registry.curve`.

        Raises:
            ValueError: the knots do not increase or leave [0, pi/2].
        """
        angle = angle.to(torch.float64)
        if angle.ndim != 1 or not len(angle) or not bool((angle.diff() > 0).all()):
            raise ValueError("a noise path needs one or more knots whose noise grows from each to the next")
        if not 0 <= float(angle[0]) <= float(angle[-1]) <= torch.pi / 2:
            raise ValueError("the angles of a noise path lie between 0 (no noise) and pi/2 (no signal)")
        self.angle = angle
        self._copies: dict[torch.device, Tensor] = {}
        self.curve = kind if isinstance(kind, Curve) else CURVES[kind]

    @property
    def kind(self) -> str:
        """The name of its curve."""
        return self.curve.name

    @classmethod
    def from_betas(cls, betas: Tensor) -> NoisePath:
        """The variance-preserving path of DDPM's forward variances, betas [T] (Ho et al. 2020, eq. 4)."""
        # log1p and the difference of logarithms keep the small angles of the first knots exact.
        log_alpha_bar = torch.log1p(-betas.to(torch.float64)).cumsum(0)
        return cls(torch.atan2(torch.sqrt(-torch.expm1(log_alpha_bar)), torch.exp(0.5 * log_alpha_bar)), "variance_preserving")

    @classmethod
    def from_alpha_bar(cls, alpha_bar: Tensor, max_beta: float) -> NoisePath:
        """The variance-preserving path of alpha_bar at 0, 1/T, ... 1, [T + 1], with betas capped at `max_beta`."""
        return cls.from_betas((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=max_beta))

    @classmethod
    def from_log_snr(cls, log_snr: Tensor, kind: Kind | Curve) -> NoisePath:
        """The path with these log SNRs at its knots, [T], falling."""
        return cls(torch.atan(torch.exp(-0.5 * log_snr.to(torch.float64))), kind)

    def shifted(self, factor: float) -> NoisePath:
        """sigma / alpha times `factor` at each level: the log SNR falls by 2 ln factor (Hoogeboom et al. 2023, section 3)."""
        if factor == 1:
            return self
        return NoisePath(torch.atan2(factor * torch.sin(self.angle), torch.cos(self.angle)), self.curve)

    def with_zero_terminal_snr(self) -> NoisePath:
        """alpha shifted and stretched: none at the last knot, the first as it was (Lin et al. 2024, algorithm 1)."""
        alpha = torch.cos(self.angle)
        stretched = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
        return NoisePath(torch.acos(stretched), self.curve)

    def adapted(self, zero_terminal_snr: bool, shift: float) -> NoisePath:
        """What the options of every variance-preserving schedule ask for."""
        return (self.with_zero_terminal_snr() if zero_terminal_snr else self).shifted(shift)

    @property
    def ends_in_noise(self) -> bool:
        """Whether no signal is left at the last level."""
        return bool(self.angle[-1] > torch.pi / 2 - 1e-9)

    @property
    def steps(self) -> int:
        """T, the number of knots."""
        return len(self.angle)

    def at(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma, float64, in the shape of `level`."""
        return self.curve.point(self._angle(level))

    def start_std(self, level: Tensor) -> Tensor:
        """The standard deviation of the noise that sampling starts from at `level`, float64."""
        return self.curve.start_std(self.at(level)[1])

    def log_snr(self, level: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2), float64; -inf where no signal is left."""
        return -2 * torch.log(torch.tan(self._angle(level)))

    def log_snr_slope(self, level: Tensor) -> Tensor:
        """d log_snr / d level, float64, negative; at a knot, that of the interval above it."""
        if self.steps == 1:
            return torch.zeros(level.shape, dtype=torch.float64, device=level.device)
        angle, rate = self._angle(level), self._knots(level).diff()
        below = self._knot_below(level)
        return -4 * rate[below] / torch.sin(2 * angle)

    def uniform_density(self, level: Tensor) -> Tensor:
        """The density over log SNR, float64, of uniform levels; infinite where T is 1, and there is one level."""
        return -1 / ((self.steps - 1) * self.log_snr_slope(level)) if self.steps > 1 else torch.full_like(level, torch.inf)

    def level(self, log_snr: Tensor) -> Tensor:
        """The level at which the path has that log SNR: the inverse of `log_snr`, clamped to [0, T - 1]."""
        if self.steps == 1:
            return torch.zeros_like(log_snr, dtype=torch.float64)
        knots = self._knots(log_snr)
        angle = torch.atan(torch.exp(-0.5 * log_snr.to(torch.float64))).clamp(knots[0], knots[-1])
        above = torch.searchsorted(knots, angle.contiguous()).clamp(1, self.steps - 1)
        low, high = knots[above - 1], knots[above]
        return above - 1 + (angle - low) / (high - low)

    def _knot_below(self, level: Tensor) -> Tensor:
        return level.floor().long().clamp(0, max(self.steps - 2, 0))

    def _angle(self, level: Tensor) -> Tensor:
        level, knots = level.to(torch.float64), self._knots(level)
        if self.steps == 1:
            return knots[0].expand(level.shape)
        below = self._knot_below(level)
        return torch.lerp(knots[below], knots[below + 1], level - below)

    def _knots(self, near: Tensor) -> Tensor:
        """The angles, on the device of `near`."""
        if near.device == self.angle.device:
            return self.angle
        if near.device not in self._copies:
            self._copies[near.device] = self.angle.to(near.device)
        return self._copies[near.device]
