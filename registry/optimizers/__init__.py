"""Optimizers: how a gradient moves the weights. A part is a `torch.optim.Optimizer`, built from `(params, lr)`.

Those of torch.optim stand here by name, except where a file of this folder has a part of the same name. The learning rate of
each step is written to `param_groups`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pydantic
import torch
from torch import nn

from registry.errors import BadInput, did_you_mean, reason
from registry.registry import OptionError, Part, Registry, stock
from registry.traits import Options, Traits

# SparseAdam needs sparse gradients, LBFGS a closure that repeats the step.
UNFIT = {"Optimizer", "SparseAdam", "LBFGS"}


MakeOptimizer = Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]


class Optimizers(Registry[MakeOptimizer, Traits]):
    """Those of torch declare their options without bounds, and look at them when they are built or take a step."""

    def adopt(self, name: str, make: type[torch.optim.Optimizer]) -> None:
        """Register a class of torch.optim; what follows `params` and `lr` in its signature are its options."""
        rest = list(inspect.signature(make).parameters.values())[len(self.runtime) :]
        fields: dict[str, Any] = {parameter.name: (Any, parameter.default) for parameter in rest}
        self._parts[name] = Part(name, make, pydantic.create_model(name, **fields), self.traits)

    def check(self, name: str, options: Options) -> Options:
        """The options, once a trial parameter has been built with them; those of torch as they are, without defaults.

        Raises:
            OptionError: an option is unknown, or the learning rate, which belongs to `train.rate`.
            BadInput: no optimizer has that name, or it refuses an option.
        """
        part = self.part(name)
        if "lr" in options:
            raise OptionError("lr", "the learning rate is set by train.rate.peak")
        if _of_torch(part):
            for key in options:
                if key not in (known := part.schema.model_fields):
                    raise OptionError(key, f"{self.kind} '{name}' has no option '{key}'; {did_you_mean(key, known)}")
            checked = options
        else:
            checked = super().check(name, options)
        try:
            _try(part, checked, 1e-3, steps=0)
        except Exception as error:
            raise BadInput(_refuses(part, error)) from None
        return checked

    def configure(self, name: str, options: Options) -> MakeOptimizer:
        """The optimizer with its options bound."""
        return _bound(self.part(name), self.check(name, options))

    def try_step(self, name: str, options: Options, rate: float) -> None:
        """A step of a trial parameter, because torch looks at some options only then.

        Raises:
            BadInput: one of torch's fails; another one raises whatever it does.
        """
        part = self.part(name)
        try:
            _try(part, options, rate, steps=1)
        except Exception as error:  # torch raises whatever the arithmetic on a wrong type gives
            if not _of_torch(part):
                raise
            raise BadInput(f"train.optimizer, at train.rate.peak = {rate:g}: {_refuses(part, error)}") from None


def _of_torch(part: Part[Traits]) -> bool:
    return part.make.__module__.startswith("torch.")


def _bound(part: Part[Traits], options: Options) -> MakeOptimizer:
    """Fused where torch has a fused form: one pass over the parameters instead of several."""
    fused = {"fused": True} if _of_torch(part) and "fused" in part.schema.model_fields else {}
    fixed = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return functools.partial(part.make, **{**fused, **fixed})


def _try(part: Part[Traits], options: Options, rate: float, steps: int) -> None:
    trial = nn.Parameter(torch.zeros(32, 32))
    trial.grad = torch.zeros_like(trial)
    optimizer = _bound(part, options)([trial], rate)
    for _ in range(steps):
        optimizer.step()


def _refuses(part: Part[Traits], error: Exception) -> str:
    return f"optimizer '{part.name}' refuses its options: {reason(error)}"


OPTIMIZERS = Optimizers("optimizer", runtime=("params", "lr"))

stock(__name__, __path__)
for _name, _kind in list(vars(torch.optim).items()):
    if inspect.isclass(_kind) and issubclass(_kind, torch.optim.Optimizer) and _name not in UNFIT and _name not in OPTIMIZERS:
        OPTIMIZERS.adopt(_name, _kind)
