"""Muon for whole networks: torch's own takes matrices only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

# A Newton-Schulz step balances the singular values of a matrix; a thin one (an output layer, a class embedding) has too
# few for that to help.
THINNEST = 16


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon (Jordan et al. 2024) for every weight that is a matrix or a convolution; AdamW for the rest.

    A convolution's kernel [out, in, h, w] is the matrix [out, in h w]. AdamW takes biases, norms and thin matrices, at the
    same learning rate, without weight decay and with betas (0.9, 0.99).
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, options: Mapping[str, Any]) -> None:
        everything = list(params)
        self._kernels = [p for p in everything if p.ndim >= 2 and min(p.flatten(1).shape) >= THINNEST]
        # Each matrix is a view: what Muon does to it, it does to the kernel.
        self._matrices = [nn.Parameter(kernel.detach().flatten(1)) for kernel in self._kernels]
        chosen = {id(kernel) for kernel in self._kernels}
        rest = [p for p in everything if id(p) not in chosen]
        self._parts: list[torch.optim.Optimizer] = []
        if self._matrices:
            self._parts.append(torch.optim.Muon(self._matrices, lr=lr, **options))
        if rest:
            self._parts.append(torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True))
        super().__init__(everything, {"lr": lr})
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for matrix, kernel in zip(self._matrices, self._kernels, strict=True):
            matrix.grad = None if kernel.grad is None else kernel.grad.flatten(1)
        for part in self._parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, those of the kernels too."""
        for owner in (*self._kernels, *self._matrices):
            owner.grad = None
        for part in self._parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The state of both."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict()`."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self._parts for group in part.param_groups]
