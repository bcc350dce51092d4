"""Progressive distillation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from registry.averages import Decay
from registry.objectives import OBJECTIVES, Batch, Learner, ObjectiveTraits
from registry.options import Count
from registry.traits import Options


def student_before(stage: Callable[[int], int]) -> Decay:
    """The student itself, as it was when its present stage began; `stage` is of the images seen."""
    return lambda seen, batch: 1.0 if stage(seen) == stage(seen - batch) else 0.0


def teacher_of_stages(options: Options, images: int) -> Decay:
    """The student as it was when its present number of steps began."""
    stages = int(options["halvings"])
    return student_before(lambda seen: seen * stages // images)


def one_step(learner: Learner, x_t: Tensor, level: Tensor, x_s: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """The x_0 and eps by which one step of DDIM leads from x_t to x_s (Salimans & Ho 2022, appendix G, eq. 7)."""
    (alpha, sigma), (alpha_s, sigma_s) = learner.point(level), learner.point(end)
    ratio = sigma_s / sigma
    x0 = (x_s - ratio * x_t) / (alpha_s - ratio * alpha)
    return x0, (x_t - alpha * x0) / sigma


def start_of_step(learner: Learner, level: Tensor, stride: Tensor | float) -> Tensor:
    """The level at which a step of the sampling schedule `trailing` starts, the one that ends below `level`."""
    last = torch.as_tensor(learner.path.steps / stride, device=level.device)
    return torch.minimum(torch.ceil((level + 1) / stride).clamp(min=1), last) * stride - 1


@OBJECTIVES.register(
    "progressive", ObjectiveTraits(network=frozenset({"jumps"}), teacher=teacher_of_stages, smooth_teacher=True)
)
def progressive(learner: Learner, batch: Batch, *, steps: Count = 64, halvings: Count = 6) -> Tensor:
    """One step of DDIM learns to be two of the teacher, and then becomes the teacher (Salimans & Ho 2022, algorithm 2).

    The teacher that training begins from takes `steps` steps on the sampling schedule `trailing`, the student half of them at
    first, and steps / 2^halvings in the end.
    """
    stride = learner.path.steps / max(1, steps // 2 ** (1 + int(learner.progress * halvings)))
    t = start_of_step(learner, batch.level, stride)
    middle, end = t - stride / 2, t - stride

    def jump(x: Tensor, level: Tensor, to: Tensor) -> Tensor:
        x0, eps = learner.split(learner.teacher(x, level, batch.y), x, level)
        alpha, sigma = learner.point(to)
        return alpha * x0 + sigma * eps

    alpha, sigma = learner.point(t)
    x_t = alpha * batch.x0 + sigma * batch.eps
    x0, eps = one_step(learner, x_t, t, jump(jump(x_t, t, middle), middle, end), end)
    return learner.loss(learner.predict(x_t, t, batch.y), x0, eps, x_t, batch, t)
