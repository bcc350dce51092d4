"""Any optimizer of torch.optim by name, and the learning rate as a function of the images seen."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from ddpm_lab.muon import Muon
from registry.errors import BadInput, did_you_mean, reason
from registry.options import Fraction, NonNegativeInt, Positive
from registry.shelf import OptionError

# SparseAdam wants sparse gradients, LBFGS a closure that repeats the step.
UNFIT = {"Optimizer", "SparseAdam", "LBFGS"}
RUNTIME = {"self", "params", "lr"}


def known_optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """Name -> class, of all in torch.optim that can train a network here."""
    found = {name: kind for name, kind in vars(torch.optim).items() if inspect.isclass(kind) and name not in UNFIT}
    return {name: kind for name, kind in found.items() if issubclass(kind, torch.optim.Optimizer)}


def check_optimizer(name: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options as they are, once torch has taken them for a trial parameter.

    Raises:
        BadInput: no optimizer has that name, or it refuses an option.
    """
    known = known_optimizers()
    if name not in known:
        raise BadInput(f"no optimizer named '{name}' in torch.optim; {did_you_mean(name, known)}")
    allowed = set(inspect.signature(known[name].__init__).parameters) - RUNTIME
    for key in options:
        if key == "lr":
            raise OptionError(key, "the learning rate is set by train.rate.peak")
        if key not in allowed:
            raise OptionError(key, f"optimizer '{name}' has no option '{key}'; {did_you_mean(key, allowed)}")
    _try(name, options, 1e-3, steps=0)
    return dict(options)


def try_step(name: str, options: Mapping[str, Any], rate: float) -> None:
    """A step of a trial parameter, because torch looks at some options only then.

    Raises:
        BadInput: it fails.
    """
    try:
        _try(name, options, rate, steps=1)
    except BadInput as error:
        raise BadInput(f"train.optimizer, at train.rate.peak = {rate:g}: {error}") from None


def _try(name: str, options: Mapping[str, Any], rate: float, steps: int) -> None:
    trial = nn.Parameter(torch.zeros(32, 32))
    trial.grad = torch.zeros_like(trial)
    try:
        optimizer = build_optimizer(name, options, [trial], rate)
        for _ in range(steps):
            optimizer.step()
    except Exception as error:  # torch raises whatever the arithmetic on a wrong type gives
        raise BadInput(f"optimizer '{name}' refuses its options: {reason(error)}") from None


def build_optimizer(
    name: str, options: Mapping[str, Any], parameters: Iterable[nn.Parameter], rate: float
) -> torch.optim.Optimizer:
    """The optimizer, fused where torch has a fused form: one pass over the parameters instead of several."""
    kind = known_optimizers()[name]
    fixed: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    if kind is torch.optim.Muon:
        return Muon(parameters, rate, fixed)
    fused: dict[str, Any] = {"fused": True} if "fused" in inspect.signature(kind.__init__).parameters else {}
    return kind(parameters, **{"lr": rate, **fused, **fixed})


class Rate(BaseModel):
    """The learning rate: linear warm-up to `peak`, then constant, then a decay from `decay_from` of the run to its end.

    `inverse_sqrt` falls as 1 / sqrt(images) from there on (Karras et al. 2024, eq. 67) and does not reach `final`, which
    the others reach at the last image: `final` times `peak`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    peak: Positive
    warmup: NonNegativeInt = 0  # images
    decay: Literal["constant", "cosine", "linear", "inverse_sqrt"] = "constant"
    decay_from: Fraction = 0.5
    final: Fraction = 0.0

    def at(self, images: int, total: int) -> float:
        """The learning rate of the step that begins after `images` of `total` images."""
        rise = min(1.0, (images + 1) / self.warmup) if self.warmup else 1.0
        start = self.decay_from * total
        if self.decay == "constant" or images <= start:
            return self.peak * rise
        done = min((images - start) / (total - start), 1.0)
        fall = {
            "linear": self.final + (1 - self.final) * (1 - done),
            "cosine": self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done)),
            "inverse_sqrt": math.sqrt(max(start, 1) / images),
        }[self.decay]
        return self.peak * rise * fall
