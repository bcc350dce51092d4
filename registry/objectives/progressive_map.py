"""Progressive distillation into a flow map."""

import torch
from torch import Tensor

from registry.objectives import CLEAN, OBJECTIVES, Batch, Learner, ObjectiveTraits
from registry.objectives.progressive import one_step, start_of_step, teacher_of_stages
from registry.options import Count, Fraction


@OBJECTIVES.register(
    "progressive_map",
    ObjectiveTraits(network=frozenset({"flow_map"}), second_level=True, teacher=teacher_of_stages),
)
def progressive_map(
    learner: Learner, batch: Batch, *, steps: Count = 32, halvings: Count = 5, keep: Fraction = 0.3
) -> Tensor:  # fmt: skip
    """Progressive distillation (Salimans & Ho 2022) of a network that is told where a jump ends, and so keeps the shorter ones.

    One network then serves steps / 2, steps / 4 ... steps / 2^halvings steps. A share of the images, `keep`, repeats a jump of
    an earlier stage, as the teacher makes it; the others learn two jumps of the teacher as one. The idea of the share has no
    source.
    """
    stage = int(learner.progress * halvings)
    earlier = learner.uniform("earlier jump") < (keep if stage else 0.0)
    which = torch.where(earlier, torch.floor(learner.uniform("which stage") * stage), float(stage))
    stride = learner.path.steps / (steps / 2 ** (1 + which)).floor().clamp(min=1)
    t = start_of_step(learner, batch.level, stride)
    end = t - stride
    end = torch.where(end < CLEAN / 2, CLEAN, end)  # rounding may leave it above
    halfway = torch.where(earlier, end, t - stride / 2).clamp(min=CLEAN)

    def jump(x: Tensor, level: Tensor, to: Tensor) -> Tensor:
        x0, eps = learner.split(learner.teacher(x, level, batch.y, to), x, level)
        alpha, sigma = learner.point(to)
        return alpha * x0 + sigma * eps

    alpha, sigma = learner.point(t)
    x_t = alpha * batch.x0 + sigma * batch.eps
    x_middle = jump(x_t, t, halfway)
    # An earlier jump has arrived; what is computed for it beyond is not used.
    x_s = torch.where(earlier[:, None, None, None], x_middle, jump(x_middle, halfway.clamp(min=0.0), end))
    x0, eps = one_step(learner, x_t, t, x_s, end)
    return learner.loss(learner.predict(x_t, t, batch.y, end), x0, eps, x_t, batch, t)
