"""Consistency models, tuned from a diffusion model."""

import torch
from torch import Tensor

from registry.objectives import OBJECTIVES, Batch, Learner, ObjectiveTraits
from registry.options import Count, NonNegative, Positive
from registry.placing import sent


@OBJECTIVES.register("consistency", ObjectiveTraits(network=frozenset({"consistency"}), weighting=False))
def consistency(
    learner: Learner,
    batch: Batch,
    *,
    stages: Count = 8,
    base: Positive = 2.0,
    k: NonNegative = 8.0,
    b: NonNegative = 1.0,
    huber: NonNegative = 0.06,
) -> Tensor:
    """The image seen from one level is the image seen from a lower one of the same noise (Geng et al. 2024, algorithm 1).

    With rho = sigma / alpha the lower level has r = rho (1 - n(rho) / base^a), n = 1 + k sigmoid(-b rho), and a = 1, 2 ...
    over `stages` of the training (there eq. 13): from the clean image, which is diffusion, to the next level, which is
    consistency. The distance is sqrt(error + c^2) - c with the mean error of a pixel and c = `huber`, over the gap rho - r
    (Song & Dhariwal 2024, eq. 8).
    """
    alpha, sigma = learner.path.at(batch.level)
    rho = sigma / alpha.clamp(min=1e-9)
    stage = 1 + int(learner.progress * stages)
    lower = (rho * (1 - (1 + k * torch.sigmoid(-b * rho)) / base**stage)).clamp(min=0)
    level = learner.path.level(-2 * torch.log(lower.clamp(min=1e-30)))
    first = learner.path.at(torch.zeros_like(level))
    clean = sent(lower < first[1] / first[0], batch.x0.device)[:, None, None, None]

    def noisy(level: Tensor) -> Tensor:
        alpha, sigma = learner.point(level)
        return alpha * batch.x0 + sigma * batch.eps

    x_t, x_r = noisy(batch.level), noisy(level)
    found, _ = learner.split(learner.predict(x_t, batch.level, batch.y), x_t, batch.level)
    seen, _ = learner.split(learner.frozen(x_r, level, batch.y), x_r, level)
    error = learner.distance(found, torch.where(clean, batch.x0, seen))
    distance = (error + huber**2).sqrt() - huber if huber else error
    return distance / sent((rho - lower).float(), distance.device)
