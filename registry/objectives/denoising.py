"""Denoising, the objective of diffusion models."""

from torch import Tensor

from registry.objectives import OBJECTIVES, Batch, Learner


@OBJECTIVES.register("denoising")
def denoising(learner: Learner, batch: Batch) -> Tensor:
    """The error of a prediction at one noise level, by target, loss and weighting of the recipe (Ho et al. 2020, eq. 14)."""
    alpha, sigma = learner.point(batch.level)
    x_t = alpha * batch.x0 + sigma * batch.eps  # Kingma et al. 2021, eq. 1
    output = learner.predict(x_t, batch.level, batch.y)
    return learner.loss(output, batch.x0, batch.eps, x_t, batch)
