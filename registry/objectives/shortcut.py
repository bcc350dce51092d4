"""Shortcut models."""

import torch
from torch import Tensor

from registry.averages import Decay
from registry.objectives import OBJECTIVES, Batch, Learner, ObjectiveTraits
from registry.objectives.straight import level_at, tau, velocity
from registry.options import Count, Fraction
from registry.placing import sent
from registry.traits import Options


def _teacher(options: Options, images: int) -> Decay:
    """The published decay of 0.999 a step."""
    return lambda seen, batch: 0.999 if seen > batch else 0.0


@OBJECTIVES.register(
    "shortcut",
    ObjectiveTraits(
        network=frozenset({"denoiser", "flow_map"}), second_level=True, teacher=_teacher, weighting=False
    ),
)  # fmt: skip
def shortcut(learner: Learner, batch: Batch, *, share: Fraction = 0.25, doublings: Count = 7) -> Tensor:
    """One jump learns to be two jumps of half its size (Frans et al. 2024, eq. 5 and algorithm 1).

    A `share` of the images learns jumps of 2^-k, k from 0 to `doublings` - 1, on the straight path; the others learn the
    velocity at their level.
    """
    jumps = learner.uniform("jumps") < share
    size = 2.0 ** -torch.floor(learner.uniform("size of the jump") * doublings)
    # It begins at one of the ends of such jumps, of which there are 1 / size above the clean image.
    start = size * (1 + torch.floor(learner.uniform("start of the jump") / size))
    alpha, sigma = (value.float() for value in learner.path.at(torch.full_like(batch.level, learner.path.steps - 1.0)))
    highest = (sigma / (alpha + sigma)).double()
    level = torch.where(jumps, level_at(learner, torch.minimum(start, highest)), batch.level)
    halfway, end = level_at(learner, (start - size / 2).clamp(max=highest)), level_at(learner, start - size)

    at = tau(learner, level)
    z = (1 - at) * batch.x0 + at * batch.eps
    first = velocity(learner, learner.teacher, z, level, batch.y, halfway)
    z_halfway = z - (at - tau(learner, halfway)) * first
    second = velocity(learner, learner.teacher, z_halfway, halfway, batch.y, end)
    # The mean over both halves, by their lengths, which differ where the path ends below pure noise.
    whole = at - tau(learner, end)
    two = ((at - tau(learner, halfway)) * first + (tau(learner, halfway) - tau(learner, end)) * second) / whole.clamp(min=1e-6)
    chosen = sent(jumps, batch.x0.device)[:, None, None, None]
    target = torch.where(chosen, two, batch.eps - batch.x0)
    to = torch.where(jumps, end, level)
    found = velocity(learner, learner.predict, z, level, batch.y, to)
    return learner.distance(found, target)
