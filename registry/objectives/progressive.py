"""Progressive distillation."""

import torch
from torch import Tensor

from registry.averages import Decay
from registry.objectives import OBJECTIVES, Batch, Learner, ObjectiveTraits
from registry.options import Count
from registry.traits import Options


def _teacher(options: Options, images: int) -> Decay:
    """The student itself, as it was when its present number of steps began."""
    stages = int(options["halvings"])

    def decay(seen: int, batch: int) -> float:
        return 1.0 if seen * stages // images == (seen - batch) * stages // images else 0.0

    return decay


@OBJECTIVES.register("progressive", ObjectiveTraits(network=frozenset({"jumps"}), teacher=_teacher))
def progressive(learner: Learner, batch: Batch, *, steps: Count = 64, halvings: Count = 6) -> Tensor:
    """One step of DDIM learns to be two of the teacher, and then becomes the teacher (Salimans & Ho 2022, algorithm 2).

    The teacher that training begins from takes `steps` steps on the sampling schedule `trailing`, the student half of them at
    first, and steps / 2^halvings in the end.
    """
    count = max(1, steps // 2 ** (1 + int(learner.progress * halvings)))
    stride = learner.path.steps / count
    t = torch.ceil((batch.level + 1) / stride).clamp(1, count) * stride - 1  # the level of a step's start
    middle, end = t - stride / 2, t - stride

    def jump(x: Tensor, level: Tensor, to: Tensor) -> Tensor:
        x0, eps = learner.split(learner.teacher(x, level, batch.y), x, level)
        alpha, sigma = learner.point(to)
        return alpha * x0 + sigma * eps

    alpha, sigma = learner.point(t)
    x_t = alpha * batch.x0 + sigma * batch.eps
    x_s = jump(jump(x_t, t, middle), middle, end)
    alpha_s, sigma_s = learner.point(end)
    # The x_0 whose one step leads to the same place (there eq. 7 of appendix G).
    ratio = sigma_s / sigma
    x0 = (x_s - ratio * x_t) / (alpha_s - ratio * alpha)
    eps = (x_t - alpha * x0) / sigma
    return learner.loss(learner.predict(x_t, t, batch.y), x0, eps, x_t, batch, t)
