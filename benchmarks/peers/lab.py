"""The lab in the same contest: its default recipe, the annotated network in its loop, and the bare loop without the lab."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers import Peer
from ddpm_lab.config.load import load_recipe
from ddpm_lab.diffusion.build import build_procedure
from ddpm_lab.diffusion.sampling import ImageSampler
from ddpm_lab.inference.trained_run import guides
from ddpm_lab.runner.run import begin
from ddpm_lab.runtime.device import autocast, pick_device

ALONE = ["track=none", "evaluate.features=[]", "evaluate.every=null", "train.samples_every=null"]


class Lab(Peer):
    """The whole loop: data, levels, noise, clipping, average, log, checkpoints."""

    title = "ddpm_lab, default recipe"
    settings = "experiments/cosine_l2.yaml"
    batch = 64
    steps = 50
    recipe = "cosine_l2"
    overrides: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        recipe = load_recipe(self.recipe, [*ALONE, *self.overrides])
        self.execution = begin(recipe, Path(self.folder.name), pick_device(None), resume=False)
        self.prepared, self.trainer = self.execution.prepared, self.execution.trainer
        self.network, self.precision = self.trainer.network, self.prepared.precision
        self.sampled = self.trainer.sampling_network(self.prepared.experiment.weights)

    def train(self, steps: int) -> None:
        self.trainer.total = self.trainer.images + steps * self.batch
        self.trainer.run(self.execution.callbacks.listed())

    def sample(self, count: int, steps: int) -> Tensor:
        model, shape = self.prepared.model, self.prepared.shape
        sampling = self.prepared.experiment.sampling.model_copy(update={"steps": steps})
        procedure = build_procedure(sampling, model, guides(model, shape, None))
        network = self.trainer.sampling_network(self.prepared.experiment.weights)
        sampler = ImageSampler(model, network, procedure, shape.image_shape, self.precision)
        return torch.cat([images for _, images in sampler.images(count, 0, sampling.batch, None)])

    def inputs(self, count: int) -> tuple[Any, ...]:
        device = self.trainer.device
        return torch.randn(count, *self.prepared.shape.image_shape, device=device), torch.zeros(count, device=device), None

    def state(self) -> dict[str, Any]:
        return self.trainer.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.trainer.load_state(state)


class LabAnnotated(Lab):
    """The annotated network, recipe and batch, with what `auto` means on this machine."""

    title = "ddpm_lab, annotated network"
    settings = "experiments/annotated.yaml with ResNet blocks, precision: auto"
    batch = 128
    steps = 200
    recipe = "annotated"
    overrides = ("backbone.block=resnet", "train.precision=auto")


class Bare(Lab):
    """Forward, backward and step of the default network and optimizer, on one batch that is always the same."""

    title = "the bare loop of the default network"
    settings = "forward, backward and step; no data, noise, clipping, average, log or checkpoint"

    def __init__(self) -> None:
        super().__init__()
        self.fixed = self.inputs(self.batch)
        self.target: Tensor = torch.randn_like(self.fixed[0])
        self.network.train()

    def train(self, steps: int) -> None:
        network: nn.Module = self.network
        for _ in range(steps):
            with autocast(self.precision, self.trainer.device):
                loss = F.mse_loss(network(*self.fixed).float(), self.target)
            loss.backward()  # type: ignore[no-untyped-call]
            self.trainer.optimizer.step()
            self.trainer.optimizer.zero_grad(set_to_none=True)
            loss.item()
