"""Training: the step on one page, then the loop around it."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ddpm_lab.build import Model, Objective
from ddpm_lab.device import Precision, autocast
from ddpm_lab.diffusion import Network, to_unit
from ddpm_lab.ema import ExponentialAverage
from ddpm_lab.experiment import Experiment, Train
from ddpm_lab.optimizer import build_optimizer
from ddpm_lab.progress import Progress
from ddpm_lab.rng import generator, shuffled
from registry.datasets import Split

ROWS = 200  # so many rows of metrics in a whole run


class Batch(NamedTuple):
    """One global batch with all that is random about its step."""

    x0: Tensor  # [B, C, H, W] in [-1, 1]
    y: Tensor | None  # [B]; K where the label was dropped
    eps: Tensor  # [B, C, H, W]
    level: Tensor  # [B]
    importance: Tensor  # [B]


def draw_batch(
    images: Tensor, labels: Tensor | None, no_class: int, objective: Objective, train: Train, seed: int, step: int
) -> Batch:
    """The batch of a step from uint8 images [B, C, H, W]: a function of (seed, step), whatever came before.

    `no_class` takes the place of a dropped label.
    """
    device, count = images.device, len(images)

    def rng(purpose: str) -> torch.Generator:
        return generator(seed, purpose, step, device=device)

    x0 = to_unit(images)
    if train.flip:
        flip = torch.rand(count, 1, 1, 1, generator=rng("flip"), device=device) < 0.5
        x0 = torch.where(flip, x0.flip(3), x0)
    if labels is not None:
        drop = torch.rand(count, generator=rng("label dropout"), device=device) < train.label_dropout
        labels = labels.masked_fill(drop, no_class)
    eps = torch.randn(x0.shape, generator=rng("noise"), device=device)
    level, importance = objective.levels(count, rng("level"))
    return Batch(x0, labels, eps, level, importance)


def training_loss(model: Model, objective: Objective, network: Network, batch: Batch) -> Tensor:
    """The mean weighted loss over the images of a batch (Ho et al. 2020, algorithm 1): a scalar."""
    x0, y, eps, level, importance = batch
    diffusion = model.diffusion
    alpha, sigma = diffusion.point(level, like=x0)
    x_t = alpha * x0 + sigma * eps  # Kingma et al. 2021, eq. 1
    prediction = diffusion.predict(network, x_t, level, y)[:, : x0.shape[1]]
    target = diffusion.target.of(x0, eps, alpha, sigma)
    loss = objective.loss(prediction, target).flatten(1).mean(dim=1)  # [B, C, H, W] -> [B]
    return (diffusion.weight(objective.weighting, level) * importance.float() * loss).mean()


class Interrupted(Exception):
    """The run was asked to stop; its state is saved."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Diverged(RuntimeError):
    """The loss is no longer a number."""


@dataclass
class Hooks:
    """What the loop calls besides training; each gets the number of images seen."""

    log: Callable[[dict[str, Any]], None]
    samples: Callable[[int], None]
    evaluate: Callable[[int], None]
    checkpoint: Callable[[int], None]


@dataclass
class Trainer:
    """A network in training. Everything that a step changes is in `state()`."""

    experiment: Experiment
    model: Model
    objective: Objective
    data: Split
    precision: Precision
    images: int = 0
    seconds: float = 0.0  # spent in steps; samples, evaluation and checkpoints are not training time
    _losses: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        train = self.experiment.train
        self.network: nn.Module = self.model.network
        self.device = next(self.network.parameters()).device
        self.ema = ExponentialAverage(self.network, train.ema.half_life, train.ema.ramp) if train.ema else None
        optimizer = train.optimizer
        self.optimizer = build_optimizer(optimizer.name, optimizer.options, self.network.parameters(), train.rate.peak)
        self.total = train.images // train.batch * train.batch

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One optimizer step on a global batch; its loss and the norm of its gradient, still on the device."""
        train = self.experiment.train
        rate = train.rate.at(self.images, self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = torch.zeros((), device=self.device)
        for part in _split(batch, train.accumulate):
            with autocast(self.precision, self.device):
                share = training_loss(self.model, self.objective, self.network, part) / train.accumulate
            share.backward()  # type: ignore[no-untyped-call]
            loss += share.detach()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), train.clip or math.inf, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.images += len(batch.x0)
        if self.ema is not None:
            self.ema.update(self.network, self.images, len(batch.x0))
        return loss, norm

    def run(self, hooks: Hooks) -> None:
        """Train to the end.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the step is finished and the state saved.
            Diverged: the loss is not finite.
        """
        experiment, train = self.experiment, self.experiment.train
        # uint8 in memory, on the GPU where there is one; scaling and flips are tensor operations on the batch.
        pixels = self.data.images.to(self.device)
        labels = self.data.labels.to(self.device) if experiment.classes and self.data.labels is not None else None
        no_class = self.model.classes or 0
        steps_per_row = max(1, self.total // train.batch // ROWS)
        self.network.train()
        with _stop_signals() as stop, Progress("training", self.total, self.images) as bar:
            since, images_since, note = time.monotonic(), self.images, ""
            for chosen in shuffled(experiment.seed, len(pixels), self.images, train.batch):
                if self.images >= self.total:
                    break
                before, step = self.images, self.images // train.batch
                chosen = chosen.to(self.device)
                y = None if labels is None else labels[chosen]
                batch = draw_batch(pixels[chosen], y, no_class, self.objective, train, experiment.seed, step)
                loss, norm = self.step(batch)
                self._losses.append(loss)
                bar.advance(train.batch, note)

                due = {
                    "log": (step + 1) % steps_per_row == 0 or self.images == self.total,
                    "samples": _crossed(before, self.images, train.samples_every) and self.images < self.total,
                    "evaluate": _crossed(before, self.images, experiment.evaluate.every) and self.images < self.total,
                    "checkpoint": _crossed(before, self.images, train.checkpoint_every) or bool(stop),
                }
                if not any(due.values()):
                    continue
                mean = float(torch.stack(self._losses).mean())  # waits for the device
                elapsed = time.monotonic() - since
                self.seconds += elapsed
                if not math.isfinite(mean):
                    raise Diverged(
                        f"the loss is {mean} after {self.images:,} images, at learning rate"
                        f" {train.rate.at(before, self.total):.3g}; lower train.rate.peak"
                    )
                if due["log"]:
                    speed = (self.images - images_since) / max(elapsed, 1e-9)
                    note = f"loss {mean:.4f}"
                    hooks.log({
                        "images": self.images, "loss": mean, "learning_rate": train.rate.at(before, self.total),
                        "gradient_norm": float(norm), "images_per_second": speed, "train_seconds": self.seconds,
                    })  # fmt: skip
                    self._losses.clear()
                paused = time.monotonic()
                if due["samples"]:
                    hooks.samples(self.images)
                if due["evaluate"]:
                    hooks.evaluate(self.images)
                if due["checkpoint"]:
                    hooks.checkpoint(self.images)
                self.network.train()
                bar.pause(time.monotonic() - paused)
                if stop:
                    raise Interrupted(stop[0])
                since, images_since = time.monotonic(), self.images

    def sampling_network(self, weights: str) -> nn.Module:
        """The network that holds those weights, `ema` or `raw`, in evaluation mode."""
        return self.ema.network if weights == "ema" and self.ema is not None else self.network.eval()

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "network": self.network.state_dict(),
            "ema": self.ema.network.state_dict() if self.ema else None,
            "optimizer": self.optimizer.state_dict(),
            "images": self.images,
            "seconds": self.seconds,
            "losses": [float(loss) for loss in self._losses],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        self.network.load_state_dict(state["network"])
        if self.ema is not None:
            self.ema.network.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.images, self.seconds = state["images"], state["seconds"]
        self._losses = [torch.tensor(loss, device=self.device) for loss in state["losses"]]


def _split(batch: Batch, parts: int) -> Iterator[Batch]:
    pieces = [[None] * parts if tensor is None else tensor.chunk(parts) for tensor in batch]
    return (Batch(*piece) for piece in zip(*pieces, strict=True))  # type: ignore[arg-type]


def _crossed(before: int, after: int, every: int | None) -> bool:
    return every is not None and before // every != after // every


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that receives the first SIGINT or SIGTERM; a second one has its usual effect, at once."""
    received: list[int] = []
    usual: dict[signal.Signals, Any] = {}

    def receive(signum: int, frame: Any) -> None:
        received.append(signum)
        for number, handler in usual.items():
            signal.signal(number, handler)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            usual[number] = signal.signal(number, receive)
    except ValueError:
        pass  # signals belong to the main thread; in another one the run is stopped as Python stops it
    try:
        yield received
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
