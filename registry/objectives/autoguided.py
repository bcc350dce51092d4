"""Denoising towards autoguided targets."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from registry.averages import Decay
from registry.objectives import OBJECTIVES, Batch, Learner, ObjectiveTraits
from registry.options import Fraction
from registry.traits import Options

SMOOTHED = 0.1  # the half-life of the guide's average, as a share of the images seen


def guide_of(options: Options, images: int) -> Decay:
    """An average of the network until the share `guide` of the training, and what it was then ever after."""
    last = float(options["guide"]) * images

    def decay(seen: int, batch: int) -> float:
        return 1.0 if seen > last else float(0.5 ** (batch / (SMOOTHED * max(seen, 1))))

    return decay


@OBJECTIVES.register("autoguided", ObjectiveTraits(teacher=guide_of))
def autoguided(
    learner: Learner, batch: Batch, *,
    scale: Annotated[float, Field(ge=1, lt=2)] = 1.5, guide: Fraction = 0.25, begin: Fraction = 0.6,
) -> Tensor:  # fmt: skip
    """Denoising, at the end towards targets that lead away from what the network gave early in its training.

    From the share `begin` of the training on, image and noise are shifted by (scale - 1) (network - guide), where the guide is
    the network's average as it was at the share `guide`. So the network learns what autoguidance (Karras et al. 2024b) would
    make of it in sampling, where it then costs one evaluation instead of two (as Tang et al. 2025, "Diffusion models without
    classifier-free guidance", do with that guidance). A network that fits its targets, whose mean is E[x_0], ends at
    guide + (E[x_0] - guide) / (2 - scale): a scale of 1.5 here is one of 2 there.
    """
    alpha, sigma = learner.point(batch.level)
    x_t = alpha * batch.x0 + sigma * batch.eps
    output = learner.predict(x_t, batch.level, batch.y)
    x0, eps = batch.x0, batch.eps
    if learner.progress >= begin:
        good = learner.split(output.detach(), x_t, batch.level)
        poor = learner.split(learner.teacher(x_t, batch.level, batch.y), x_t, batch.level)
        x0, eps = x0 + (scale - 1) * (good[0] - poor[0]), eps + (scale - 1) * (good[1] - poor[1])
    return learner.loss(output, x0, eps, x_t, batch)
