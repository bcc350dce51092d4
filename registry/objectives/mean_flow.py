"""MeanFlow."""

import torch
from torch import Tensor

from registry.objectives import OBJECTIVES, Batch, Learner, ObjectiveTraits
from registry.objectives.straight import tau, velocity
from registry.options import Fraction, NonNegative, Positive


@OBJECTIVES.register(
    "mean_flow",
    ObjectiveTraits(network=frozenset({"denoiser", "flow_map"}), second_level=True, weighting=False),
)
def mean_flow(
    learner: Learner, batch: Batch, *, share: Fraction = 0.25, power: NonNegative = 1.0, floor: Positive = 1e-3
) -> Tensor:
    """The mean velocity between two levels, from its own derivative: u = v - (t - r) du / dt (Geng et al. 2025, eq. 6 and 11).

    A `share` of the images has two levels; the others learn the velocity at one. An image's squared error e counts
    e / (e + floor)^power, the denominator without gradient (there eq. 22).
    """
    other = torch.minimum(learner.levels("second level"), batch.level)
    to = torch.where(learner.uniform("two levels") < share, other, batch.level)

    def straight(level: Tensor) -> Tensor:
        at = tau(learner, level)
        return (1 - at) * batch.x0 + at * batch.eps

    def mean_velocity(level: Tensor) -> Tensor:
        return velocity(learner, learner.frozen, straight(level), level, batch.y, to)

    # Along the line from image to noise, on which dz / dtau is v; both derivatives are by the level.
    by_level = learner.derivative(mean_velocity, batch.level)
    rate = learner.derivative(lambda level: tau(learner, level), batch.level)
    gap = tau(learner, batch.level) - tau(learner, to)
    target = batch.eps - batch.x0 - gap * by_level / rate
    found = velocity(learner, learner.predict, straight(batch.level), batch.level, batch.y, to)
    error = learner.distance(found, target)
    return error / (error.detach() + floor) ** power
