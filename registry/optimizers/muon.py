"""Muon for whole networks, all matrices of one shape at once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from registry.optimizers import OPTIMIZERS
from registry.options import NonNegative

# A Newton-Schulz step balances the singular values of a matrix; a thin one (an output layer, a class embedding) has too
# few for that to help.
THINNEST = 16


@OPTIMIZERS.register("Muon")
class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for every weight that is a matrix or a convolution; AdamW for the rest.

    The options, their defaults and their meaning are those of torch.optim.Muon, which takes one matrix after the other, in
    bfloat16: for a small network that costs more time than its gradients. A convolution's kernel [out, in, h, w] is the
    matrix [out, in h w]. AdamW takes biases, norms and thin matrices, at the same learning rate, without weight decay and
    with betas (0.9, 0.99).
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        *,
        weight_decay: NonNegative = 0.1,
        momentum: NonNegative = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: Annotated[int, Field(ge=0, lt=100)] = 5,
        adjust_lr_fn: Literal["original", "match_rms_adamw", "spectral_unclamped"] | None = None,
    ) -> None:
        everything = list(params)
        shapes: dict[tuple[int, ...], list[Tensor]] = {}
        for parameter in everything:
            if parameter.ndim >= 2 and min(shape := tuple(parameter.flatten(1).shape)) >= THINNEST:
                shapes.setdefault(shape, []).append(parameter)
        self._alike = list(shapes.values())
        chosen = {id(parameter) for group in self._alike for parameter in group}
        rest = [parameter for parameter in everything if id(parameter) not in chosen]
        self._adamw = torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True) if rest else None
        self._momentum = [torch.stack([kernel.detach().flatten(1) * 0 for kernel in group]) for group in self._alike]
        options = {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn,
        }  # fmt: skip
        super().__init__([nn.Parameter(torch.zeros(0))], options)
        self._join()

    def _join(self) -> None:
        """The learning rate of both parts is set by those who set it in `param_groups`."""
        self.param_groups = [self.param_groups[0], *(self._adamw.param_groups if self._adamw else ())]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter; one without a gradient counts as having none to follow."""
        options = self.param_groups[0]
        for kernels, momentum in zip(self._alike, self._momentum, strict=True):
            gradient = torch.stack([_gradient(kernel).flatten(1) for kernel in kernels])  # [n, rows, columns]
            momentum.lerp_(gradient, 1 - options["momentum"])
            direction = gradient.lerp(momentum, options["momentum"]) if options["nesterov"] else momentum
            update = balanced(direction, options["ns_coefficients"], options["ns_steps"], options["eps"])
            size = options["lr"] * _size(options["adjust_lr_fn"], *update.shape[1:])
            torch._foreach_mul_(kernels, 1 - options["lr"] * options["weight_decay"])
            torch._foreach_add_(kernels, [u.view_as(k) for u, k in zip(update, kernels, strict=True)], alpha=-size)
        if self._adamw is not None:
            self._adamw.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for kernels in self._alike:
            for kernel in kernels:
                kernel.grad = None
        if self._adamw is not None:
            self._adamw.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The momentum of the matrices, and AdamW's state."""
        return {"momentum": self._momentum, "adamw": self._adamw.state_dict() if self._adamw else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from `state_dict()`."""
        for momentum, value in zip(self._momentum, state_dict["momentum"], strict=True):
            momentum.copy_(value)
        if self._adamw is not None:
            self._adamw.load_state_dict(state_dict["adamw"])
        self._join()


def balanced(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Each of the matrices [n, rows, columns] with its singular values brought near one by Newton-Schulz (Jordan et al. 2024).

    X <- (a + b X X^T + c (X X^T)^2) X. All the polynomials are of X X^T alone and commute, so they are multiplied up as
    small square matrices, and the wide one is multiplied twice instead of in every product.
    """
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=eps)[:, None, None]  # the largest singular value is at most 1
    gram = x @ x.mT  # [n, m, m]
    one = torch.eye(gram.shape[1], device=gram.device, dtype=gram.dtype)
    product: Tensor | None = None
    for step in range(steps):
        polynomial = torch.baddbmm(a * one + b * gram, gram, gram, alpha=c)
        product = polynomial if product is None else polynomial @ product
        if step < steps - 1:
            gram = polynomial @ gram @ polynomial
    x = x if product is None else product @ x
    return x.mT if tall else x


def _size(adjust: str | None, rows: int, columns: int) -> float:
    """What the learning rate of a matrix is multiplied by; the names are torch.optim.Muon's."""
    if adjust == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))  # Liu et al. 2025, "Muon is scalable", eq. 4
    ratio = rows / columns
    return math.sqrt(ratio if adjust == "spectral_unclamped" else max(1.0, ratio))


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
