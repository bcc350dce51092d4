"""An accelerator without float64, such as `mps`: nothing of the lab needs more of it, and nothing waits for it without a word.

No such machine took part: `tests/support/fake_accelerator.py` stands for one. Where a GPU is at hand, the same runs on it.
"""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from end_to_end.test_any_objective import RECIPES
from support.fake_accelerator import Refused, fake_accelerator
from torch import Tensor

from ddpm_lab.config.load import load_recipe
from ddpm_lab.config.schema import Experiment, Sampling
from ddpm_lab.diffusion.build import build_data, build_model, build_objective, build_procedure
from ddpm_lab.diffusion.model import DataShape, Model
from ddpm_lab.diffusion.sampling import ImageSampler
from ddpm_lab.evaluation.held_out_errors import held_out_errors
from ddpm_lab.runner.prepare import prepare
from ddpm_lab.runtime import device as device_module
from ddpm_lab.runtime.device import pick_device
from ddpm_lab.training.loss import training_loss
from ddpm_lab.training.trainer import Trainer
from registry.backbones import BACKBONES
from registry.choice import Choice
from registry.datasets import ImageSet
from registry.errors import BadInput
from registry.guidance import GUIDANCE
from registry.levels import LEVELS
from registry.losses import LOSSES
from registry.objectives import OBJECTIVES, Batch
from registry.samplers import SAMPLERS, Denoise, Grid, Noise
from registry.targets import TARGETS
from registry.variances import VARIANCES
from registry.weightings import WEIGHTINGS

IMAGES = 4
# What a step waits for, as the code of the part says where it does.
WAITS = {
    "optimal_transport": {"copy to the CPU", "copy from the CPU", "_unique2", "nonzero"},
    "importance": {"copy to the CPU"},
}
NOISE = {"copy from the CPU"}  # and labels, before the first step of a sampler

Device = Callable[[], "contextlib.AbstractContextManager[tuple[torch.device, Counter[str]]]"]


@contextlib.contextmanager
def _fake() -> Iterator[tuple[torch.device, Counter[str]]]:
    with fake_accelerator() as kernels:
        yield torch.device("mps"), kernels.waits
        assert kernels.ran.total() > 100  # it took part


@contextlib.contextmanager
def _cuda() -> Iterator[tuple[torch.device, Counter[str]]]:
    yield torch.device("cuda"), Counter()


@pytest.fixture(params=[pytest.param(_fake, id="fake"), pytest.param(_cuda, id="cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Device:
    made: Device = request.param
    return made


@contextlib.contextmanager
def _no_waits(device: torch.device, waits: Counter[str], but: Collection[str] = ()) -> Iterator[None]:
    waits.clear()
    if device.type == "cuda" and not but:
        torch.cuda.set_sync_debug_mode("error")  # whatever waits raises
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    found = {name: count for name, count in waits.items() if count and name not in but}
    assert not found, f"waited for the accelerator: {found}"


class Built(NamedTuple):
    """A recipe's objects on a device."""

    model: Model
    trainer: Trainer
    sampling: Sampling
    data: ImageSet

    def sampler(self, sampling: Sampling | None = None) -> ImageSampler:
        network = self.trainer.network.eval()
        poor = self.model.diffusion.conditional(copy.deepcopy(network))
        procedure = build_procedure(sampling or self.sampling, self.model, lambda guide: poor)
        return ImageSampler(self.model, network, procedure, self.data.image_shape, "fp32")


def _experiment(**changed: object) -> Experiment:
    changed = {
        "dataset": {"size": 8, "count": 16}, "timesteps": 50, "sampling.steps": 4, "train.images": 16, "train.batch": 8,
        "sampling.grid": "trailing", "target": "v", "backbone": "mlp", **changed,
    }  # fmt: skip
    backbone = BACKBONES.part(str(changed["backbone"]))
    changed["backbone"] = {"name": backbone.name, **backbone.traits.trial}
    return load_recipe("smoke", [f"{key}={'null' if value is None else value}" for key, value in changed.items()]).experiment


def _built(device: torch.device, **changed: object) -> Built:
    experiment = _experiment(**changed)
    data = build_data(experiment)
    shape = DataShape.of(data)
    model = build_model(experiment, shape, device)
    trainer = Trainer(experiment, model, build_objective(experiment, shape, model), data.train, "fp32")
    return Built(model, trainer, experiment.sampling, data)


def _step(built: Built, waits: Counter[str]) -> None:
    """A step of training, and not the first, which makes the optimizer's state."""
    experiment, trainer = built.trainer.experiment, built.trainer
    parts = (experiment.coupling.name, experiment.levels.name)
    trainer.step(trainer.batch(0))
    with _no_waits(trainer.device, waits, set[str]().union(*(WAITS.get(part, set()) for part in parts))):
        trainer.step(trainer.batch(1))
    assert torch.stack(trainer._losses).cpu().isfinite().all()


def _sampled(sampler: ImageSampler, waits: Counter[str]) -> Tensor:
    labels = sampler.labels(IMAGES)
    with _no_waits(sampler.device, waits, NOISE):
        images = sampler.unrounded(range(IMAGES), 0, labels)
    images = images.cpu()
    assert images.isfinite().all()
    return images


@pytest.mark.parametrize("objective", ["denoising", "consistency", "mean_flow", "progressive"])
def test_no_sampler_waits(device: Device, objective: str) -> None:
    network = OBJECTIVES.part(objective).traits.network
    kinds = network - {"denoiser"} or network
    with device() as (where, waits):
        built = _built(where, objective=objective, variance="learned_range" if objective == "denoising" else "fixed_small")
        for part in SAMPLERS:
            if part.traits.takes & kinds:
                chosen = Choice(part.name, SAMPLERS.check(part.name, part.traits.trial))
                _sampled(built.sampler(built.sampling.model_copy(update={"sampler": chosen})), waits)


@pytest.mark.parametrize("objective", [part.name for part in OBJECTIVES])
def test_no_objective_waits(device: Device, objective: str) -> None:
    with device() as (where, waits):
        _step(_built(where, objective=objective, self_conditioning=True, classes=True), waits)


# Every part of these kinds, each with some backbone: where there are more parts than backbones, the slow test has the rest.
KINDS = {"weighting": WEIGHTINGS, "levels": LEVELS, "target": TARGETS, "loss": LOSSES, "variance": VARIANCES}


@pytest.mark.parametrize("number", range(len(list(BACKBONES))))
def test_no_backbone_waits(device: Device, number: int) -> None:
    changed = {key: list(registry)[number % len(list(registry))].name for key, registry in KINDS.items()}
    backbone = list(BACKBONES)[number].name
    with device() as (where, waits):
        _step(_built(where, backbone=backbone, **changed), waits)


@pytest.mark.parametrize("number", range(max(len(list(registry)) for registry in KINDS.values())))
def test_no_part_of_the_loss_waits(device: Device, number: int) -> None:
    changed = {key: list(registry)[number % len(list(registry))].name for key, registry in KINDS.items()}
    extra = {"train.accumulate": 2, "train.flip": True, "train.optimizer": "Muon"} if number % 2 else {}
    coupling = "optimal_transport" if number == 0 and changed["variance"] != "learned_range" else "independent"
    with device() as (where, waits):
        _step(_built(where, coupling=coupling, **changed, **extra), waits)


def test_guidance(device: Device) -> None:
    with device() as (where, waits):
        built = _built(where, classes=True, variance="learned_range", self_conditioning=True)
        for part in GUIDANCE:
            chosen = Choice(part.name, GUIDANCE.check(part.name, part.traits.trial))
            _sampled(built.sampler(built.sampling.model_copy(update={"guidance": chosen, "clip": 0.9})), waits)


def test_images_and_held_out_errors_are_those_of_a_cpu(device: Device) -> None:
    with device() as (where, waits):
        there = _built(where)
        there.trainer.step(there.trainer.batch(0))
        images = _sampled(there.sampler(), waits)
        held_out = there.data.test.rows(torch.arange(IMAGES))
        errors = held_out_errors(there.model, there.trainer.network, held_out, None, "fp32")
        weights = {name: value.cpu() for name, value in there.trainer.network.state_dict().items()}
    here = _built(torch.device("cpu"))
    here.trainer.network.load_state_dict(weights)
    torch.testing.assert_close(images, _sampled(here.sampler(), Counter()), rtol=1e-4, atol=1e-4)
    expected = held_out_errors(here.model, here.trainer.network, held_out, None, "fp32")
    torch.testing.assert_close(errors, expected, rtol=1e-4, atol=1e-5)


def test_the_bound_in_float32_is_that_in_float64(device: Device) -> None:
    here = _built(torch.device("cpu"), variance="learned_range", schedule="linear")
    level = torch.tensor([0, 0.5, 1, 20.3, 40, 48, 48.5, 49], dtype=torch.float64)  # the prior's term is in those above 48
    batch = here.trainer.batch(0)._replace(level=level)
    expected = training_loss(here.model, here.trainer.objective, here.trainer.network, batch).detach()
    with device() as (where, _):
        there = _built(where, variance="learned_range", schedule="linear")
        there.trainer.network.load_state_dict(here.trainer.network.state_dict())
        exact = there.model.diffusion.exact
        moved = Batch(batch.x0.to(where), None, batch.eps.to(where), level.to(exact), batch.importance.to(exact))
        found = training_loss(there.model, there.trainer.objective, there.trainer.network, moved).detach().cpu()
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: "-".join(str(value) for value in recipe.values()))
def test_any_objective_with_any_part(device: Device, recipe: dict[str, object]) -> None:
    """With the trial on two images that comes before each run."""
    with device() as (where, waits):
        experiment = _experiment(**{**recipe, "sampling.clip": False})
        found = prepare(experiment, where, lambda: 1)
        built = Built(found.model, found.trainer, experiment.sampling, found.data)
        _step(built, waits)
        _sampled(built.sampler(), waits)


def _float64(denoise: Denoise, grid: Grid, noise: Noise) -> Tensor:
    x = grid.start(noise())
    for step in grid:
        x = x - step.sigma_t.expand(len(x)).to(x.device)[:, None, None, None] * denoise(x, step.level).eps
    return x


def _item(denoise: Denoise, grid: Grid, noise: Noise) -> Tensor:
    x = grid.start(noise())
    for step in grid:
        x = denoise(x, step.level).x0 / max(1.0, x.abs().max().item())
    return x


def _mixed(denoise: Denoise, grid: Grid, noise: Noise) -> Tensor:
    x = grid.start(noise())
    return denoise(x, grid.levels[0]).x0 * torch.ones(IMAGES, 1, 1, 1)


def test_a_fault_is_found() -> None:
    faults = {
        _float64: (Refused, "float64 on the accelerator"), _mixed: (Refused, "on the CPU meets"),
        _item: (AssertionError, "waited for the accelerator: {'_local_scalar_dense': 4}"),
    }  # fmt: skip
    with _fake() as (where, waits):
        sampler = _built(where).sampler()
        for fault, (error, words) in faults.items():
            sampler.procedure = replace(sampler.procedure, sampler=fault)
            with pytest.raises(error, match=words):
                _sampled(sampler, waits)


@pytest.mark.parametrize(
    ("there", "chosen"), [({"cuda", "xpu", "mps"}, "cuda"), ({"xpu", "mps"}, "xpu"), ({"mps"}, "mps"), (set(), "cpu")]
)
def test_auto_takes_the_first_that_is_there(monkeypatch: pytest.MonkeyPatch, there: set[str], chosen: str) -> None:
    for kind in ("cuda", "xpu", "mps"):
        module = torch.get_device_module(kind)
        monkeypatch.setattr(module, "is_available", lambda kind=kind: kind in there)
        monkeypatch.setattr(module, "device_count", lambda: 1)
    assert pick_device(None).type == pick_device("auto").type == chosen
    if chosen != "cpu":
        with pytest.raises(BadInput, match=f"'{chosen}:7' is not on this machine, which has 1 GPUs of that kind; take cpu"):
            pick_device(f"{chosen}:7")


def test_several_processes_do_not_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "device_count", lambda: 1)
    monkeypatch.setattr(device_module, "launched", lambda: True)
    assert pick_device(None).type in {"cpu", "cuda"}
    with pytest.raises(BadInput, match="several processes compute on cpu or cuda, not on 'mps'"):
        pick_device("mps")
