"""Objectives on data of which all is known: pixels N(0, STD^2), whose flow only changes their size.

Expectations are exact: the losses are quadratic in image and noise, for which three nodes of Gauss and Hermite are enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from registry.objectives import OBJECTIVES, Batch
from registry.objectives.progressive_map import stage_at
from registry.path import NoisePath
from registry.schedules import SCHEDULES
from registry.targets import TARGETS

STD = 0.6
PATHS = {name: SCHEDULES.configure(name, {})(1000) for name in ("cosine", "flow", "edm")}


@dataclass
class Exact:
    """A learner whose network is right, times a factor that it may learn. `kind`: what its network is."""

    path: NoisePath
    kind: str = "flow_map"
    progress: float = 0.0
    factor: Tensor = field(default_factory=lambda: torch.ones((), dtype=torch.float64, requires_grad=True))
    drawn: dict[str, float] = field(default_factory=dict)
    other: Callable[[Tensor], Tensor] = lambda level: level / 3
    seen: list[tuple[Tensor, ...]] = field(default_factory=list)

    target = TARGETS.configure("velocity", {})(STD)

    def point(self, level: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.path.at(level.clamp(min=0))
        alpha, sigma = torch.where(level < 0, 1.0, alpha), torch.where(level < 0, 0.0, sigma)
        return alpha[:, None, None, None], sigma[:, None, None, None]

    def _size(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """tau, and the standard deviation of z."""
        alpha, sigma = self.point(level)
        tau = sigma / (alpha + sigma)
        return tau, ((1 - tau) ** 2 * STD**2 + tau**2).sqrt()

    def frozen(self, x_t: Tensor, level: Tensor, y: Tensor | None, to: Tensor | None = None) -> Tensor:
        alpha, sigma = self.point(level)
        z, (tau, size) = x_t / (alpha + sigma), self._size(level)
        if self.kind == "denoiser" or to is None or bool((to == level).all()):
            return (tau - (1 - tau) * STD**2) / size**2 * z  # d size / d tau over size: the velocity
        at, there = self._size(to)
        gap = torch.where(tau == at, 1.0, tau - at)
        jump = (1 - there / size) / gap
        return torch.where(tau == at, (tau - (1 - tau) * STD**2) / size**2, jump) * z

    teacher = frozen

    def predict(self, x_t: Tensor, level: Tensor, y: Tensor | None, to: Tensor | None = None) -> Tensor:
        return self.factor * self.frozen(x_t, level, y, to)

    def split(self, output: Tensor, x_t: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        return self.target.split(output, x_t, *self.point(level))

    def loss(self, output: Tensor, x0: Tensor, eps: Tensor, x_t: Tensor, batch: Batch, level: Tensor | None = None) -> Tensor:
        self.seen.append((x0, eps, x_t, batch.level if level is None else level))
        return ((output - self.target.of(x0, eps, *self.point(batch.level))) ** 2).flatten(1).mean(dim=1)

    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        return ((prediction - target) ** 2).flatten(1).mean(dim=1)

    def derivative(self, function: Callable[[Tensor], Tensor], level: Tensor) -> Tensor:
        with torch.no_grad(), forward_ad.dual_level():
            value, tangent = forward_ad.unpack_dual(function(forward_ad.make_dual(level, torch.ones_like(level))))
        return torch.zeros_like(value) if tangent is None else tangent

    def levels(self, purpose: str) -> Tensor:
        return self.other(self.level)

    def uniform(self, purpose: str) -> Tensor:
        return torch.full_like(self.level, self.drawn.get(purpose, 0.0))

    def expected(self, name: str, level: float, **options: Any) -> tuple[float, float]:
        """The expected loss at one level, and its derivative by the factor, over the size of the two terms that make it up."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(3)
        x0, eps = (torch.tensor(part).flatten()[:, None, None, None] for part in np.meshgrid(STD * nodes, nodes))
        share = torch.tensor(np.outer(weights, weights).flatten() / weights.sum() ** 2)
        self.level = torch.full((9,), level, dtype=torch.float64)
        batch = Batch(x0, None, eps, self.level, torch.ones(9))
        losses = OBJECTIVES.configure(name, options)(self, batch)
        mean = (share * losses).sum()
        (slope,) = torch.autograd.grad(mean, self.factor)
        return float(mean.detach()), float(slope)


LEVELS = [200.0, 500.5, 900.0]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("level", LEVELS)
def test_the_mean_velocity_is_where_mean_flow_leads(path: str, level: float) -> None:
    for factor, sign in ((0.9, -1), (1.0, 0), (1.1, 1)):
        learner = Exact(PATHS[path], factor=torch.tensor(factor, dtype=torch.float64, requires_grad=True))
        loss, slope = learner.expected("mean_flow", level, share=1.0, power=0.0)
        assert loss > 0, "a single image does not tell the mean"
        assert slope == pytest.approx(0, abs=1e-6 * loss) if not sign else slope * sign > 1e-4 * loss


def test_without_a_second_level_mean_flow_is_flow_matching() -> None:
    loss, slope = Exact(PATHS["flow"]).expected("mean_flow", 400.0, share=0.0, power=0.0)
    tau = float(PATHS["flow"].at(torch.tensor(400.0))[1])
    assert slope == pytest.approx(0, abs=1e-9)
    # Var(eps - x_0 | z) of two independent Gaussians.
    assert loss == pytest.approx(STD**2 / ((1 - tau) ** 2 * STD**2 + tau**2), rel=1e-9)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", [0.0, 0.3, 0.9])
def test_two_half_jumps_of_the_flow_are_one(path: str, size: float) -> None:
    drawn = {"size of the jump": size, "start of the jump": 0.4}
    loss, _ = Exact(PATHS[path], drawn=drawn).expected("shortcut", 300.0, share=1.0)
    assert loss == pytest.approx(0, abs=1e-12)
    factor = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    loss, slope = Exact(PATHS[path], drawn=drawn, factor=factor).expected("shortcut", 300.0, share=1.0)
    assert loss > 1e-6
    assert slope < 0


def test_the_other_images_of_a_shortcut_model_learn_the_velocity() -> None:
    loss, slope = Exact(PATHS["flow"]).expected("shortcut", 400.0, share=0.0)
    assert slope == pytest.approx(0, abs=1e-9)
    assert loss == pytest.approx(Exact(PATHS["flow"]).expected("mean_flow", 400.0, share=0.0, power=0.0)[0])


@pytest.mark.parametrize("path", ["cosine", "edm"])
def test_consistency_begins_as_diffusion(path: str) -> None:
    """Where the lower level is the clean image, the mean of x_0 is best."""
    clean = {"base": 1.0001, "k": 0.0, "huber": 0.0}
    loss, slope = Exact(PATHS[path], kind="denoiser").expected("consistency", 600.0, **clean)
    assert loss > 0
    # x_0 = (x_t - sigma u) / (alpha + sigma): the factor is on u.
    assert slope == pytest.approx(0, abs=1e-9 * loss)


def test_consistency_ends_where_the_flow_ends() -> None:
    """The function that leads to the end of the flow is stationary up to the gap between the levels."""

    class ToTheEnd(Exact):
        def frozen(self, x_t: Tensor, level: Tensor, y: Tensor | None, to: Tensor | None = None) -> Tensor:
            return super().frozen(x_t, level, y, torch.full_like(level, -1.0))

        teacher = frozen

    def slope(stage: int) -> float:
        learner = ToTheEnd(PATHS["edm"], progress=(stage - 0.5) / 16)
        _, slope = learner.expected("consistency", 600.0, stages=16, base=2.0, k=0.0, huber=0.0)
        return abs(slope)

    # The loss is over the gap, so what is left of the slope is of the size of the gap itself.
    assert slope(12) < 0.2 * slope(8) < 0.04 * slope(4) * 5


@pytest.mark.parametrize("path", ["cosine", "flow"])
def test_a_step_of_the_student_is_two_of_the_teacher(path: str) -> None:
    learner = Exact(PATHS[path], kind="denoiser", progress=0.4)
    learner.expected("progressive", 640.0, steps=64, halvings=4)
    ((x0, eps, x_t, level),) = learner.seen
    count = 16  # 64 / 2^2: the second of four halvings
    stride = 1000 / count
    assert float((level[0] + 1) / stride) == pytest.approx(round(float((level[0] + 1) / stride)), abs=1e-9)
    x, at = x_t, level
    for to in (level - stride / 2, level - stride):
        there = learner.split(learner.teacher(x, at, None), x, at)
        alpha, sigma = learner.point(to)
        x, at = alpha * there[0] + sigma * there[1], to
    alpha, sigma = learner.point(level - stride)
    torch.testing.assert_close(alpha * x0 + sigma * eps, x)
    alpha, sigma = learner.point(level)
    torch.testing.assert_close(alpha * x0 + sigma * eps, x_t)


def test_the_teacher_of_a_progressive_student_is_the_student_of_the_stage_before() -> None:
    teacher = OBJECTIVES.part("progressive").traits.teacher
    assert teacher is not None
    decay = teacher({"halvings": 4}, 6400)
    copied = [seen for seen in range(64, 6401, 64) if decay(seen, 64) == 0]
    assert copied == [1600, 3200, 4800, 6400]
    assert {decay(seen, 64) for seen in range(64, 6401, 64)} == {0.0, 1.0}


def _map_learned(path: str, earlier: float, progress: float, **options: float) -> tuple[Tensor, Tensor, int]:
    """Where a jump is asked to lead, where the flow leads, and how many jumps there are."""
    learner = Exact(PATHS[path], progress=progress, drawn={"earlier jump": earlier, "which stage": 0.3})
    learner.expected("progressive_map", 640.0, **options)
    ((x0, eps, x_t, level),) = learner.seen
    stage = stage_at(progress, float(options["first"]), int(options["halvings"]))
    stage = int(0.3 * stage) if earlier < options["keep"] and stage else stage
    end = level - 1000 / (options["jumps"] / 2**stage)
    end = torch.where(end < -0.5, -1.0, end)
    alpha, sigma = learner.point(end)
    (_, size), (_, there) = learner._size(level), learner._size(end)
    at, of = learner.point(level)
    torch.testing.assert_close(at * x0 + of * eps, x_t)
    return (alpha * x0 + sigma * eps) / (alpha + sigma), x_t / (at + of) * there / size, stage


@pytest.mark.parametrize("path", ["cosine", "flow", "edm"])
@pytest.mark.parametrize("earlier", [0.0, 0.9])
def test_a_jump_of_a_distilled_map_is_two_of_the_flow(path: str, earlier: float) -> None:
    """The flow's own map is the fixed point: its jumps are what they are asked to be, at every stage."""
    for progress in (0.7, 0.9):
        asked, flow, _ = _map_learned(path, earlier, progress, jumps=16, halvings=4, first=0.6, keep=0.5)
        torch.testing.assert_close(asked, flow)


@pytest.mark.parametrize("path", ["cosine", "flow", "edm"])
def test_the_first_jumps_of_a_distilled_map_are_the_solution_of_the_flow_to_second_order(path: str) -> None:
    def error(steps: int) -> float:
        asked, flow, _ = _map_learned(path, 0.9, 0.1, jumps=8, halvings=1, first=0.6, keep=0.5, solver_steps=steps)
        return float((asked - flow).abs().max() / flow.abs().max())

    assert error(16) < 0.01
    assert 3 < error(16) / error(32) < 5.5


def test_a_distilled_map_learns_the_solver_first_and_then_halves_its_jumps() -> None:
    assert [stage_at(k / 10, 0.6, 2) for k in range(11)] == [0] * 6 + [1, 1, 2, 2, 2]
    teacher = OBJECTIVES.part("progressive_map").traits.teacher
    assert teacher is not None
    decay = teacher({"first": 0.6, "halvings": 2}, 6400)
    assert [seen for seen in range(64, 6401, 64) if decay(seen, 64) == 0] == [3840, 5120]


@pytest.mark.parametrize("path", PATHS)
def test_autoguided_targets_lead_as_far_beyond_the_mean_as_they_say(path: str) -> None:
    """The network's factor f is stationary where f = 1 + (scale - 1) (f - g), of a guide whose factor is g."""

    class Guided(Exact):
        def teacher(self, x_t: Tensor, level: Tensor, y: Tensor | None, to: Tensor | None = None) -> Tensor:
            return 0.8 * self.frozen(x_t, level, y, to)

    for scale, factor in ((1.0, 1.0), (1.5, 1.2), (1.75, 1.6)):
        for off, sign in ((-0.05, -1), (0.0, 0), (0.05, 1)):
            there = torch.tensor(factor + off, dtype=torch.float64, requires_grad=True)
            learner = Guided(PATHS[path], kind="denoiser", factor=there, progress=0.7)
            loss, slope = learner.expected("autoguided", 700.0, scale=scale, guide=0.25, begin=0.6)
            assert slope == pytest.approx(0, abs=1e-9 * loss) if not sign else slope * sign > 1e-6 * loss
    learner = Guided(PATHS[path], kind="denoiser", progress=0.5)
    plain = Guided(PATHS[path], kind="denoiser").expected("denoising", 700.0)
    assert learner.expected("autoguided", 700.0, scale=1.5, guide=0.25, begin=0.6) == pytest.approx(plain)


def test_the_guide_is_an_average_that_stops() -> None:
    teacher = OBJECTIVES.part("autoguided").traits.teacher
    assert teacher is not None
    decay = teacher({"guide": 0.25}, 6400)
    assert [decay(seen, 64) == 1.0 for seen in (64, 800, 1600, 1664, 6400)] == [False, False, False, True, True]
    assert decay(1600, 64) == pytest.approx(0.5 ** (64 / 160))  # half of it is forgotten in a tenth of the images
