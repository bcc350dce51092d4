"""Optimizers: how a gradient moves the weights; all of torch.optim by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from registry.errors import BadInput, did_you_mean, reason
from registry.optimizers.muon import Muon
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
