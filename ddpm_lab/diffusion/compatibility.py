"""Whether the parts of a recipe fit each other: what is refused, and what is warned of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

from ddpm_lab.config.schema import Experiment
from ddpm_lab.diffusion.build import build_sampler
from ddpm_lab.diffusion.model import Model, Objective
from ddpm_lab.diffusion.process import Diffusion
from ddpm_lab.diffusion.stability import amplification
from registry.blame import on_behalf_of
from registry.errors import BadInput
from registry.objectives import OBJECTIVES
from registry.path import NoisePath
from registry.samplers import SAMPLERS
from registry.traits import Setting
from registry.weightings import per_log_snr

# Stable Diffusion's terminal SNR of 0.0047 keeps it from dark and bright images (Lin et al. 2024, section 3.1).
NEARLY_NOISE = 1e-3
SINGULAR = 1e6  # an error of the network is so many times as large in x_0
LARGE = 10.0  # of what a network takes and gives, which its initial weights make of size 1
WIDE = 3e5  # ten times what the cosine schedule has at its noisy end with the published target, epsilon
UNEVEN = 1e4  # the largest weight against the median one
CLAMPED = 0.02  # the share of levels at the ends of the path
# tests/diffusion/test_stability.py: of the exact denoiser's images, 15 times the error of ddim and more lie beyond it.
WILD = 20
NOISY_END = 0.1  # of pixels in [-1, 1]: 13 of 255 levels

FAILS = "fails on the levels of the path"


def require_fit(experiment: Experiment, model: Model, objective: Objective) -> None:
    """Refuse what cannot be trained.

    Raises:
        BadInput: the target cannot tell x_0 at some level, a weight is not finite, or levels lack a density that is needed.
    """
    _require_served(experiment, model, objective)
    diffusion = model.diffusion
    with on_behalf_of("targets", experiment.target.name, FAILS):
        to_x0, _ = diffusion.target.gain(*diffusion.path.at(_all(diffusion.path)))
    if float(to_x0[-1]) > SINGULAR:
        raise BadInput(
            f"target: '{experiment.target.name}' cannot tell x_0 where no signal is left, and schedule"
            f" '{experiment.schedule.name}' ends there; take v, x0, velocity or edm"
        )
    with on_behalf_of("levels", experiment.levels.name, FAILS):
        sampled = _levels(diffusion.path, objective)
    if model.variance.bound:
        objective.bound_weight(diffusion.path, *sampled)
    if not isinstance(objective.weighting, nn.Module):
        with on_behalf_of("weightings", experiment.weighting.name, FAILS):
            levels, weight = _weights(model, objective)
        if not bool(weight.isfinite().all()):
            first = float(levels[~weight.isfinite()][0])
            raise BadInput(
                f"weighting: '{experiment.weighting.name}' of target '{experiment.target.name}' is infinite at level {first:g};"
                " take another weighting, target or schedule"
            )


def _require_served(experiment: Experiment, model: Model, objective: Objective) -> None:
    """Refuse what the objective's network, or the coupling, is not for."""
    name, sampler = experiment.objective.name, experiment.sampling.sampler.name
    traits, takes = OBJECTIVES.part(name).traits, SAMPLERS.part(sampler).traits.takes
    if not takes & traits.network:
        fitting = samplers_for(name)
        raise BadInput(
            f"sampling.sampler: '{sampler}' samples networks of kind {_either(takes)}, and objective '{name}' trains one of"
            f" kind {_either(traits.network)}; take {' or '.join(fitting)}"
        )
    if not traits.weighting:
        usual = Experiment.model_fields["weighting"].default.name
        unused = {"weighting": experiment.weighting.name != usual, "loss_space": experiment.loss_space is not None,
                  "variance": bool(model.variance.extra_channels)}  # fmt: skip
        for key in (key for key, given in unused.items() if given):
            raise BadInput(f"{key}: objective '{name}' weighs its images itself, and would ignore it; leave it out")
    if objective.coupling is not None:
        because = (
            f"with coupling '{experiment.coupling.name}' noise and image depend on each other, so what the network predicts"
        )
        if amplification(*build_sampler(experiment.sampling, model)).stochastic:
            raise BadInput(
                f"sampling.sampler: {because} is not the score, and '{sampler}' adds noise on the way; take ddim, or another"
                " sampler without noise"
            )
        if model.variance.bound:
            raise BadInput(f"variance: {because} gives no bound; take fixed_small")


def samplers_for(objective: str) -> list[str]:
    """The samplers that take what an objective of that name trains, in order."""
    trained = OBJECTIVES.part(objective).traits.network
    return [part.name for part in SAMPLERS if part.traits.takes & trained]


def _either(names: Iterable[str]) -> str:
    return " or ".join(sorted(names))


def space_of_loss(experiment: Experiment, model: Model, objective: Objective, shape: Sequence[int]) -> str | None:
    """What a loss that is no square means in a space that is not the target's; None where the space is only a weight.

    `shape` is that of an image.
    """
    space = experiment.loss_space
    if space is None or objective.space is None:
        return None
    error = torch.linspace(-3, 3, math.prod(shape)).reshape(1, *shape)
    small, large = (objective.loss(scale * error, torch.zeros_like(error)).sum() for scale in (1, 2))
    if torch.isclose(large, 4 * small):
        return None
    diffusion, loss = model.diffusion, experiment.loss.name
    alpha, sigma = diffusion.path.at(_all(diffusion.path))
    one, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
    there = objective.space.of(*diffusion.target.split(one, zero, alpha, sigma), alpha, sigma).abs()
    return (
        f"{loss} of the error in {space.name}, which is {float(there.min()):.3g} to {float(there.max()):.3g}"
        f" times that of {experiment.target.name}; {loss} is no square, so no weighting of {experiment.target.name} is the same"
    )


def warnings(experiment: Experiment, model: Model, objective: Objective, std: float) -> Iterator[str]:
    """What will train, and probably not as it was meant. `std` is the standard deviation of the data."""
    path, sampling = model.diffusion.path, experiment.sampling
    snr, last = terminal_snr(path), _all(path)[-1:]
    if snr > NEARLY_NOISE and bool(path.start_std(last) > path.at(last)[1]):
        yield (
            f"terminal SNR {snr:.2e} is above {NEARLY_NOISE:g}: training ends before pure noise, sampling begins with it; scale"
            " the schedule to T, take more timesteps, or zero_terminal_snr"
        )
    pair = f"target '{experiment.target.name}' on schedule '{experiment.schedule.name}'"
    for what, limit, size in _sizes(model.diffusion, std):
        if float(size.max()) > limit:
            yield f"{pair}: {what} {float(size.max()):.3g} at level {int(size.argmax())}; in target edm all is of size 1"
    if not isinstance(objective.weighting, nn.Module):
        _, weight = _weights(model, objective)
        if float(weight.max()) > UNEVEN * float(weight.median()):
            yield (
                f"weighting '{experiment.weighting.name}' of target '{experiment.target.name}' gives one level"
                f" {float(weight.max() / weight.median()):.1g} times the median weight: most of the loss is there"
            )
    levels, _ = _levels(path, objective)
    clamped = float(((levels <= 0) | (levels >= path.steps - 1)).double().mean())
    if clamped > CLAMPED and path.steps > 1:
        yield f"levels '{experiment.levels.name}': {clamped:.0%} of them lie beyond the path's ends and are moved there"
    traits = SAMPLERS.part(sampling.sampler.name).traits
    if model.variance.extra_channels and not traits.uses_variance:
        using = ", ".join(part.name for part in SAMPLERS if part.traits.uses_variance)
        yield (
            f"variance '{experiment.variance.name}' is learned, and sampler '{sampling.sampler.name}' does not use it;"
            f" it is used by {using}"
        )
    order = traits.order_with(sampling.sampler.options)
    if sampling.steps < 2 * order:
        yield f"sampling.steps: {sampling.steps} are few for '{sampling.sampler.name}', of order {order} only after as many"
    steps = amplification(*build_sampler(sampling, model))
    if steps.stochastic and steps.factor > WILD:
        yield (
            f"sampling.grid: '{sampling.grid.name}' makes the log SNR jump, where '{sampling.sampler.name}' extrapolates:"
            f" before evaluation {steps.evaluation} the network's errors grow by {steps.factor:.0f}; take clipped_log_snr or"
            " trailing"
        )
    clean = float(path.log_snr(torch.zeros(1)).mul(-0.5).exp())
    if clean > NOISY_END:
        yield (
            f"the path's clean end has sigma / alpha {clean:.3g}, above {NOISY_END:g}: detail below that noise is never"
            " trained, and the last step blurs it; take more timesteps, or a schedule.shift below 1"
        )
    yield from _advice(experiment, model)


def _advice(experiment: Experiment, model: Model) -> Iterator[str]:
    """What the parts themselves warn of."""
    diffusion, sampling = model.diffusion, experiment.sampling
    path, levels = diffusion.path, _all(diffusion.path)
    _, labels = diffusion.target.condition(*path.at(levels), 1000 * levels / path.steps)
    setting = Setting(path, experiment.target.name, labels, experiment.train.images, sampling.steps)
    for registry, choice in experiment.parts:
        with on_behalf_of(registry, choice.name, "cannot give its advice"):
            said = list(registry.part(choice.name).traits.advice(choice.options, setting))
        yield from said


def _sizes(diffusion: Diffusion, std: float) -> Iterator[tuple[str, float, torch.Tensor]]:
    """What a network bears only up to a limit, for data of that standard deviation, at each level [T]."""
    alpha, sigma = diffusion.path.at(levels := _all(diffusion.path))
    one, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
    of_x0, of_eps = diffusion.target.of(one, zero, alpha, sigma), diffusion.target.of(zero, one, alpha, sigma)
    output = ((std * of_x0) ** 2 + of_eps**2).sqrt()  # x_0 and eps are independent, and a target is linear in them
    scale, _ = diffusion.target.condition(alpha, sigma, 1000 * levels / diffusion.path.steps)
    to_x0, to_eps = diffusion.target.gain(alpha, sigma)
    yield "the network has to predict values of size", LARGE, output
    yield "the network is shown values of size", LARGE, scale * ((alpha * std) ** 2 + sigma**2).sqrt()
    yield "an error of the network's output shows, against the size of the image, times", WIDE, to_x0 * output / std
    yield "an error of the network's output shows, against the size of the noise, times", WIDE, to_eps * output


def terminal_snr(path: NoisePath) -> float:
    """The signal-to-noise ratio at the last level."""
    return float(path.log_snr(torch.tensor([path.steps - 1.0])).exp())


def _levels(path: NoisePath, objective: Objective) -> tuple[torch.Tensor, torch.Tensor]:
    return objective.levels(4096, torch.Generator().manual_seed(0))


def _weights(model: Model, objective: Objective) -> tuple[torch.Tensor, torch.Tensor]:
    """Levels, and the weights that they would get; where the density of the levels counts, those that are sampled."""
    path = model.diffusion.path
    levels, importance = _levels(path, objective) if per_log_snr(objective.weighting) else (_all(path), torch.ones(1))
    return levels, objective.weight(model.diffusion, levels, importance)


def _all(path: NoisePath) -> torch.Tensor:
    return torch.arange(path.steps, dtype=torch.float64)
