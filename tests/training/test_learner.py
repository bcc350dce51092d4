"""What an objective may ask of the model in training, against finite differences, autograd and counting."""

import dataclasses

import pytest
import torch
from torch import Tensor

from ddpm_lab.config.load import load_recipe
from ddpm_lab.diffusion.build import build_data, build_model, build_objective
from ddpm_lab.diffusion.model import DataShape
from ddpm_lab.training.learner import ModelLearner, Moment
from ddpm_lab.training.loss import make_batch, training_loss
from ddpm_lab.training.trainer import Trainer
from registry.objectives import CLEAN

BACKBONES = {
    "attention": "{name: annotated_unet, width: 8, multipliers: [1, 2]}",
    "transformer": "{name: dit, width: 16, depth: 2, heads: 2}",
}


def _learner(*overrides: str, count: int = 4) -> tuple[ModelLearner, Trainer]:
    few = ["dataset={size: 8, count: 16}", "train.batch=8", "train.images=16", "timesteps=50"]
    experiment = load_recipe("smoke", [*few, *overrides]).experiment
    data = build_data(experiment)
    model = build_model(experiment, DataShape.of(data), torch.device("cpu"))
    trainer = Trainer(experiment, model, build_objective(experiment, DataShape.of(data), model), data.train, "fp32")
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(0))
    return ModelLearner(model, trainer.objective, model.network, None, Moment(0, 0, 0.0, count)), trainer


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("target", ["velocity", "edm"])
def test_the_derivative_is_that_of_finite_differences(backbone: str, target: str) -> None:
    """In float64, along a line of images that moves with the level, and with a second level that stays."""
    learner, _ = _learner("objective=mean_flow", f"target={target}", f"backbone={BACKBONES[backbone]}")
    learner.model.network.double()
    rng = torch.Generator().manual_seed(1)
    x0, eps = (torch.randn(4, 1, 8, 8, generator=rng, dtype=torch.float64) for _ in range(2))
    # Between the knots of the path, which bends at each.
    level, to = torch.tensor([3.4, 12.5, 30.3, 44.6], dtype=torch.float64), torch.tensor([1.0, 2.5, 20.0, 44.0]).double()

    def seen(level: Tensor) -> Tensor:
        alpha, sigma = (value[:, None, None, None] for value in learner.path.at(level))
        scaled, label = learner.target.condition(alpha, sigma, 1000 * level / 50)
        labels = torch.stack([label, 1000 * (level - to) / 50], dim=1)
        return learner.model.network(scaled * (alpha * x0 + sigma * eps), labels, None)  # type: ignore[no-any-return]

    h = 1e-5
    with torch.no_grad():
        expected = (seen(level + h) - seen(level - h)) / (2 * h)
    found = learner.derivative(seen, level)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert float(expected.abs().max()) > 1e-3, "the level matters"


def test_below_the_first_level_lies_the_clean_image() -> None:
    learner, _ = _learner()
    alpha, sigma = learner.point(torch.tensor([CLEAN, 0.0, 49.0], dtype=torch.float64))
    assert alpha.flatten()[0] == 1
    assert sigma.flatten()[0] == 0
    assert 0 < float(sigma.flatten()[1]) < float(sigma.flatten()[2])


def test_random_numbers_are_those_of_the_global_batch_in_parts() -> None:
    learner, _ = _learner(count=8)
    whole = learner.uniform("a purpose")
    halves = [
        dataclasses.replace(learner, moment=dataclasses.replace(learner.moment, part=part, parts=2)).uniform("a purpose")
        for part in range(2)
    ]
    assert torch.equal(torch.cat(halves), whole)
    assert not torch.equal(whole, learner.uniform("another purpose"))
    later = dataclasses.replace(learner, moment=dataclasses.replace(learner.moment, step=1))
    assert not torch.equal(whole, later.uniform("a purpose"))


SPACES = ["x0", "epsilon", "v", "velocity", "edm"]


def _gradient(*overrides: str) -> tuple[Tensor, list[Tensor]]:
    learner, trainer = _learner(*overrides)
    batch = make_batch(trainer.data.images[:8], None, 0, trainer.objective, trainer.experiment.train, 0, 0)
    losses = training_loss(learner.model, trainer.objective, learner.model.network, batch, learner.moment)
    losses.mean().backward()  # type: ignore[no-untyped-call]
    return losses.detach(), [parameter.grad for parameter in learner.model.network.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("weighting", ["min_snr", "edm"])
def test_with_a_weighting_of_its_own_space_a_squared_error_is_the_same_in_every_space(space: str, weighting: str) -> None:
    plain, spaced = (
        _gradient("target=v", "loss=l2", f"weighting={weighting}", *more) for more in ([], [f"loss_space={space}"])
    )
    torch.testing.assert_close(spaced[0], plain[0], rtol=1e-3, atol=1e-5)
    for one, other in zip(spaced[1], plain[1], strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("target", ["x0", "v", "edm"])
@pytest.mark.parametrize("space", SPACES)
def test_an_error_in_another_space_is_what_autograd_makes_of_the_conversion(target: str, space: str) -> None:
    """x_0 and eps are linear in the prediction: an error of 1 shows in the other space as the derivative says."""
    learner, trainer = _learner(f"target={target}", "loss=l2", f"loss_space={space}")
    batch = make_batch(trainer.data.images[:4], None, 0, trainer.objective, trainer.experiment.train, 0, 0)
    alpha, sigma = learner.point(batch.level)
    x_t = alpha * batch.x0 + sigma * batch.eps
    right = learner.target.of(batch.x0, batch.eps, alpha, sigma)
    assert trainer.objective.space is not None

    def measured(prediction: Tensor) -> Tensor:
        return trainer.objective.space.of(*learner.target.split(prediction, x_t, alpha, sigma), alpha, sigma)  # type: ignore[union-attr]

    _, slope = torch.autograd.functional.jvp(measured, right, torch.ones_like(right))  # type: ignore[no-untyped-call]
    losses = learner.loss(right + 0.1, batch.x0, batch.eps, x_t, batch)
    torch.testing.assert_close(losses, ((0.1 * slope) ** 2).flatten(1).mean(dim=1), rtol=5e-3, atol=1e-6)
    assert float(learner.loss(right, batch.x0, batch.eps, x_t, batch).max()) < 1e-4
