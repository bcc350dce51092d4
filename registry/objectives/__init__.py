"""Objectives: what a network is trained for. A part is called with `(learner, batch)` and gives the loss of each image [B].

`batch` is what a step learns from: images, classes, noise, noise levels. `learner` is the model in training: it predicts, with
gradient or without, at one noise level or from one to another; it knows path, target, loss and weighting, and has random
numbers for each purpose. The lab weighs by importance, accumulates, averages over processes and steps: a part does none of it.

Many objectives are easiest in the coordinates of the straight path: tau = sigma / (alpha + sigma) in [0, 1] and
z = x_t / (alpha + sigma) = (1 - tau) x_0 + tau eps, whose velocity dz / dtau is eps - x_0. Every path has them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from registry.averages import Decay
from registry.path import NoisePath
from registry.registry import Registry, stock
from registry.targets import Target
from registry.traits import Options, Traits


class Batch(NamedTuple):
    """This process's share of a global batch, with all that is random about its step."""

    x0: Tensor  # [B, C, H, W] in [-1, 1]
    y: Tensor | None  # [B]; K where the label was dropped
    eps: Tensor  # [B, C, H, W]
    level: Tensor  # [B]
    importance: Tensor  # [B]


class Learner(Protocol):
    """The model in training, as an objective sees it. Levels are [B], float64; `to` is a level below, CLEAN for the image.

    What is float64, levels and `uniform`, may lie on the CPU where the images lie on an accelerator that has none; `point`
    brings it to them, and `registry.placing.sent` the rest, such as a mask.
    """

    @property
    def path(self) -> NoisePath: ...

    @property
    def target(self) -> Target: ...

    @property
    def progress(self) -> float:
        """The share of the training that is done, from 0 to below 1."""

    def point(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma [B, 1, 1, 1], float32; 1 and 0 at CLEAN."""

    def predict(self, x_t: Tensor, level: Tensor, y: Tensor | None, to: Tensor | None = None) -> Tensor:
        """The network's raw output for x_t, with gradient: [B, channels_out, H, W], float32."""

    def frozen(self, x_t: Tensor, level: Tensor, y: Tensor | None, to: Tensor | None = None) -> Tensor:
        """The same without gradient."""

    def teacher(self, x_t: Tensor, level: Tensor, y: Tensor | None, to: Tensor | None = None) -> Tensor:
        """What the objective's teacher, an average of the network, predicts; without gradient."""

    def split(self, output: Tensor, x_t: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """x_0 and eps [B, C, H, W] of a raw output."""

    def loss(self, output: Tensor, x0: Tensor, eps: Tensor, x_t: Tensor, batch: Batch, level: Tensor | None = None) -> Tensor:
        """The recipe's loss [B] of a raw output where x_0 and eps are right, weighted, with the bound of a learned variance.

        `level` is the batch's where none is given.
        """

    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The recipe's loss [B] between two images [B, C, H, W], unweighted."""

    def derivative(self, function: Callable[[Tensor], Tensor], level: Tensor) -> Tensor:
        """d function(level) / d level, without gradient, by forward differentiation; `function` calls `frozen` or `point`."""

    def levels(self, purpose: str) -> Tensor:
        """Other levels [B] as the recipe samples them."""

    def uniform(self, purpose: str) -> Tensor:
        """Random numbers in [0, 1), [B], float64: a function of step and purpose, whatever the number of processes."""


CLEAN = -1.0  # the level of the image without noise: alpha 1, sigma 0
Network = Literal["denoiser", "flow_map", "consistency", "jumps"]


@dataclass(frozen=True)
class ObjectiveTraits(Traits):
    """What an objective declares.

    `network` says what its network is afterwards, and so which samplers it serves: a `denoiser` gives the mean of x_0 and eps
    at a level; a `flow_map` leads from one level to another and needs `second_level`; a network of `consistency` leads to the
    clean image; one of `jumps` leads to the next level of the sampling schedule that it was trained for.
    `teacher(options, images of the training)` is how the average forgets that it learns from: an average of the network, or
    with `smooth_teacher` of the run's own average, where it has one. `weighting` says whether it calls `learner.loss`, and so
    uses the recipe's weighting, loss_space and variance.
    """

    network: frozenset[Network] = frozenset({"denoiser"})
    second_level: bool = False
    teacher: Callable[[Options, int], Decay] | None = None
    smooth_teacher: bool = False
    weighting: bool = True


ImageLoss = Callable[[Learner, Batch], Tensor]

OBJECTIVES: Registry[ImageLoss, ObjectiveTraits] = Registry("objective", ("learner", "batch"), ObjectiveTraits())

stock(__name__, __path__)
