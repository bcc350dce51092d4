"""What objectives and couplings promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_lab.diffusion.model import Model, Objective
from ddpm_lab.diffusion.process import Diffusion
from ddpm_lab.testing.promises import PATHS, STD, normal_images, probes, promised, require, require_same
from ddpm_lab.training.learner import ModelLearner, Moment
from registry.backbones import BACKBONES
from registry.backbones.embeddings import add_second_level
from registry.levels import LEVELS
from registry.losses import LOSSES
from registry.objectives import OBJECTIVES, Batch, ImageLoss, ObjectiveTraits
from registry.path import NoisePath
from registry.targets import TARGETS
from registry.variances import VARIANCES
from registry.weightings import WEIGHTINGS

COUNT = 8


def _network(second_level: bool, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = BACKBONES.configure("mlp", {"width": 16, "depth": 1})((1, 8, 8), None, 1)
    if second_level:
        add_second_level(network)
    with torch.no_grad():
        for parameter in network.parameters():  # networks begin at 0
            parameter.copy_(0.2 * torch.randn(parameter.shape))
    return network


def _traits(make: Any) -> ObjectiveTraits:
    return next(part.traits for part in OBJECTIVES if part.make is make.func)


def _learner(make: Any, path: NoisePath, moment: Moment) -> tuple[ModelLearner, Batch]:
    """A small network that learns by that objective, and what it learns from."""
    second_level = _traits(make).second_level
    target, levels = TARGETS.configure("velocity", {})(STD), LEVELS.configure("uniform", {})(path)
    model = Model(Diffusion(path, target, second_level), _network(second_level), VARIANCES.configure("fixed_small", {})(), None)
    objective = Objective(
        levels, LOSSES.configure("l2", {}), WEIGHTINGS.configure("constant", {})(STD), compute=make
    )  # fmt: skip
    images = normal_images(COUNT)
    level, importance = levels(COUNT, torch.Generator().manual_seed(0))
    batch = Batch(STD * next(images), None, next(images), level, importance)
    teacher = _network(second_level, seed=1)  # other weights, as an average of the network has
    return ModelLearner(model, objective, model.network, teacher, moment), batch


def _losses(make: ImageLoss, path: NoisePath, moment: Moment, batch: Batch | None = None) -> tuple[Tensor, nn.Module]:
    learner, whole = _learner(make, path, moment)
    return make(learner, whole if batch is None else batch), learner.model.network


@promised("objectives")
def objectives(make: ImageLoss) -> None:
    moment = Moment(seed=0, step=3, progress=0.4, count=COUNT)
    for kind, path in PATHS.items():
        losses, network = _losses(make, path, moment)
        require(losses.shape == (COUNT,), "an objective gives the loss of each image, [B]")
        require(bool(losses.isfinite().all()), f"the losses are finite on a {kind} path")
        losses.mean().backward()  # type: ignore[no-untyped-call]
        reached = [parameter.grad is not None and bool(parameter.grad.isfinite().all()) for parameter in network.parameters()]
        require(all(reached), "every weight of the network gets a gradient, which is finite")
        again, _ = _losses(make, path, moment)
        require_same(losses.detach(), again.detach(), "the loss of the same step")
        # Worked on in two parts, as by train.accumulate or in two processes, an image has the same loss.
        _, whole = _learner(make, path, moment)
        halves = []
        for part in range(2):
            batch = Batch(*(None if one is None else one.chunk(2)[part] for one in whole))  # type: ignore[arg-type]
            halves.append(_losses(make, path, replace(moment, part=part, parts=2), batch)[0])
        same = torch.allclose(torch.cat(halves), losses, rtol=1e-3, atol=1e-6)
        require(same, "an image's loss does not depend on the other images, nor on the parts that a batch is worked on in")


@probes("objectives")
def _probe_objective(make: Any) -> Tensor:
    path, images = PATHS["flow"], 8 * COUNT
    found = [_losses(make, path, Moment(0, step, step / 8, COUNT))[0].detach() for step in range(8)]
    if teacher := _traits(make).teacher:
        decay = teacher(make.keywords, images)
        found.append(torch.tensor([decay(seen, COUNT) for seen in range(COUNT, images + 1, COUNT)]))
    return torch.cat(found)


Pairs = tuple[Tensor, Tensor, Tensor | None]


def _sampled(run: str, indices: range) -> Pairs:
    """Another run whose images are its noise, and each with its number in a corner."""
    noise = next(normal_images(len(indices))).clone()
    noise[:, 0, 0, 0] = torch.arange(len(indices)).float()
    return 10 + noise, noise, torch.arange(len(indices)) % 2


@promised("couplings")
def couplings(make: Callable[[Callable[[str, range], Pairs]], Any]) -> None:
    coupling, images = make(_sampled), normal_images(16)
    x0, eps = next(images), next(images)
    for y in (None, torch.arange(16) % 2):
        found, noise = coupling(x0, eps, y, torch.Generator().manual_seed(0))
        require(found.shape == x0.shape and noise.shape == eps.shape, "pairs have the shapes of images and noise")
        again = coupling(x0, eps, y, torch.Generator().manual_seed(0))
        require_same(found, again[0], "a sample of images from the same generator")
        require_same(noise, again[1], "a sample of noise from the same generator")
        ours = {tuple(row) for row in eps.flatten(1).tolist()}
        dealt = [tuple(row) for row in noise.flatten(1).tolist()]
        if torch.equal(found, x0):  # the images of the data: noise is dealt out, none of it twice
            require(len(set(dealt)) == len(dealt) and set(dealt) == ours, "each noise is used once")
            if y is not None:
                for label in (0, 1):
                    own = {tuple(row) for row in eps[y == label].flatten(1).tolist()}
                    require({dealt[i] for i in (y == label).nonzero().flatten()} == own, "noise stays within its class")
        else:
            require(torch.equal(found, 10 + noise), "the images of another run come with their own noise")
            if y is not None:
                require(torch.equal(noise[:, 0, 0, 0].long() % 2, y), "pairs of another run are of the class asked for")


@probes("couplings")
def _probe_coupling(make: Callable[[Callable[[str, range], Pairs]], Any]) -> Tensor:
    seen: list[str] = []

    def sampled(run: str, indices: range) -> Pairs:
        seen.append(run)
        return _sampled(run, indices)

    images = normal_images(16)
    found, noise = make(sampled)(next(images), next(images), None, torch.Generator().manual_seed(0))
    return torch.cat([found.flatten(), noise.flatten(), torch.tensor([float(sum(map(len, seen)))])])
