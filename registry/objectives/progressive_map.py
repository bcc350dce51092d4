"""Distillation into a flow map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from registry.averages import Decay
from registry.objectives import CLEAN, OBJECTIVES, Batch, Learner, ObjectiveTraits
from registry.objectives.progressive import one_step, start_of_step, student_before
from registry.objectives.straight import tau, velocity
from registry.options import Count, Fraction
from registry.placing import sent
from registry.traits import Options


def stage_at(progress: float, first: float, halvings: int) -> int:
    """0 while the solver is learned, for the share `first` of the training; then 1 to `halvings`, of equal length."""
    return 0 if progress < first else 1 + min(halvings - 1, int((progress - first) / (1 - first) * halvings))


def teacher_of_stages(options: Options, images: int) -> Decay:
    """The student as it was when its present stage began."""
    first, halvings = float(options["first"]), int(options["halvings"])
    return student_before(lambda seen: stage_at(seen / images, first, halvings))


def solved(field: Callable[[Tensor, Tensor], Tensor], z: Tensor, levels: list[Tensor], at: list[Tensor]) -> Tensor:
    """z [B, C, H, W] at the last of the levels: dz / dtau = field(z, level) from the first on, with one evaluation a step.

    Adams and Bashforth's method of second order for uneven steps (Hairer, Norsett & Wanner 1993, section III.5), whose first
    step is Heun's and shares its second evaluation with the next step. `at` holds the levels' tau [B, 1, 1, 1].
    """
    before, h = field(z, levels[0]), at[1] - at[0]
    now = field(z + h * before, levels[1])
    z = z + h * (before + now) / 2
    for k in range(1, len(levels) - 1):
        if k > 1:
            before, now = now, field(z, levels[k])
        h = at[k + 1] - at[k]
        share = h / (2 * (at[k] - at[k - 1]))
        z = z + h * ((1 + share) * now - share * before)
    return z


@OBJECTIVES.register(
    "progressive_map",
    ObjectiveTraits(network=frozenset({"flow_map"}), second_level=True, teacher=teacher_of_stages, smooth_teacher=True),
)
def progressive_map(
    learner: Learner, batch: Batch, *, jumps: Count = 4, halvings: Count = 2, solver_steps: Annotated[int, Field(ge=2)] = 4,
    first: Annotated[float, Field(ge=0, lt=1)] = 0.6, keep: Fraction = 0.5,
) -> Tensor:  # fmt: skip
    """A denoiser becomes a flow map of `jumps` jumps, which then become half as many, and half again.

    For the share `first` of the training each jump learns `solver_steps` steps of an ODE solver with the denoiser that training
    began from (Luhman & Luhman 2021, of a whole solution). Then one jump learns to be two (Salimans & Ho 2022), `halvings`
    times; of the images a share, `keep`, repeats a jump of an earlier stage as the teacher makes it. The network is told where
    a jump ends, and so one network serves `jumps`, jumps / 2 ... jumps / 2^halvings steps. The shares have no source.
    """
    stage = stage_at(learner.progress, first, halvings)
    earlier = learner.uniform("earlier jump") < (keep if stage else 0.0)
    which = torch.where(earlier, torch.floor(learner.uniform("which stage") * stage), float(stage))
    stride = learner.path.steps / (jumps / 2**which).floor().clamp(min=1)
    t = start_of_step(learner, batch.level, stride)
    end = t - stride
    end = torch.where(end < CLEAN / 2, CLEAN, end)  # rounding may leave it above
    alpha, sigma = learner.point(t)
    x_t = alpha * batch.x0 + sigma * batch.eps
    z = x_t / (alpha + sigma)
    if stage == 0:
        # A network that is not told of another level than its own gives the velocity there.
        levels = [t + (end - t) * (k / solver_steps) for k in range(solver_steps)] + [end]
        at = [tau(learner, level) for level in levels]
        z = solved(lambda z, level: velocity(learner, learner.teacher, z, level, batch.y, level), z, levels, at)
    else:
        halfway = torch.where(earlier, end, t - stride / 2).clamp(min=CLEAN)
        arrived = _jump(learner, batch, z, t, halfway)
        # An earlier jump has arrived; what is computed for it beyond is not used.
        kept = sent(earlier, z.device)[:, None, None, None]
        z = torch.where(kept, arrived, _jump(learner, batch, arrived, halfway.clamp(min=0.0), end))
    alpha, sigma = learner.point(end)
    x0, eps = one_step(learner, x_t, t, (alpha + sigma) * z, end)
    return learner.loss(learner.predict(x_t, t, batch.y, end), x0, eps, x_t, batch, t)


def _jump(learner: Learner, batch: Batch, z: Tensor, level: Tensor, to: Tensor) -> Tensor:
    return z + (tau(learner, to) - tau(learner, level)) * velocity(learner, learner.teacher, z, level, batch.y, to)
