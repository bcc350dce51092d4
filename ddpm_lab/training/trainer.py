"""Training: the step on one page, then the loop around it."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.optimizer import StateDict

from ddpm_lab.config.schema import Experiment
from ddpm_lab.diffusion.build import build_part
from ddpm_lab.diffusion.model import Model, Objective
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.console import Progress
from ddpm_lab.runtime.device import Precision, autocast, layers_generator, pick_compile
from ddpm_lab.runtime.seeding import restart
from ddpm_lab.runtime.signals import Interrupted, stop_signals
from ddpm_lab.training.batches import Batches
from ddpm_lab.training.callback import Callback
from ddpm_lab.training.ema import Average
from ddpm_lab.training.learner import Moment
from ddpm_lab.training.loss import make_batch, training_loss
from registry.averages import AVERAGES
from registry.blame import on_behalf_of
from registry.datasets import Images
from registry.levels import AdaptiveLevels
from registry.objectives import Batch
from registry.optimizers import OPTIMIZERS
from registry.placing import sent

ROWS = 200  # so many rows of metrics in a whole run


class Diverged(RuntimeError):
    """The loss or its gradient is no longer a number.

    `batch` is this process's share of the one that did it; `untouched` says that the weights are those from before the step.
    """

    def __init__(self, text: str, batch: Batch, untouched: bool) -> None:
        super().__init__(text)
        self.batch, self.untouched = batch, untouched


@dataclass
class Trainer:
    """A network in training. Everything that a step changes is in `state()`."""

    experiment: Experiment
    model: Model
    objective: Objective
    data: Images
    precision: Precision
    images: int = 0
    seconds: float = 0.0  # spent in steps; samples, evaluation and checkpoints are not training time
    skipped: int = 0  # steps whose loss or gradient was no number
    # Since the last row: the losses of the steps taken, and their mean. Of the last step: the norm of its gradient.
    _losses: list[Tensor] = field(default_factory=list)
    _mean: float | None = None
    _norm: Tensor | None = None
    _speed: float = 0.0  # images/s since the last callback
    _note: str = ""  # beside the bar

    def __post_init__(self) -> None:
        train = self.experiment.train
        self.network: nn.Module = self.model.network
        self.device = next(self.network.parameters()).device
        self.averages = {name: Average(self.network, build_part(AVERAGES, choice)) for name, choice in train.averages.items()}
        smooth = next(iter(self.averages.values())).network if self.averages and self.objective.smooth_teacher else self.network
        self.teacher = Average(smooth, self.objective.teacher) if self.objective.teacher else None
        optimizer = train.optimizer
        with on_behalf_of("optimizers", optimizer.name, "takes no step"):
            OPTIMIZERS.try_step(optimizer.name, optimizer.options, train.rate.peak)
        learned = self.objective.weighting
        self.parameters = [*self.network.parameters(), *(learned.parameters() if isinstance(learned, nn.Module) else ())]
        with on_behalf_of("optimizers", optimizer.name, "cannot be built so"):
            self.optimizer: torch.optim.Optimizer = OPTIMIZERS.configure(optimizer.name, optimizer.options)(
                self.parameters, train.rate.peak
            )
        self.total = train.images // train.batch * train.batch
        # Looking at each loss makes a GPU wait, so there a loss that is NaN or infinite is found when a row of metrics is due.
        self.looks_at_each_step = self.device.type == "cpu" or train.on_nonfinite == "skip"
        self._layers = layers_generator(self.device)
        # All parameters at once; where torch cannot, it would refuse to.
        self._at_once = True if self.device.type in {"cpu", "cuda", "xpu"} else None
        self._batches = Batches(self.data, self.experiment.classes, self.experiment.seed, train.batch, self.device)
        self._parallel: nn.Module = self.network
        if pick_compile(train.compile, self.device):
            # Where it was not asked for, what cannot be compiled is computed as it is.
            torch._dynamo.config.suppress_errors = train.compile == "auto"
            self._parallel = torch.compile(self.network)  # type: ignore[assignment]
        self._weighting: nn.Module | None = learned if isinstance(learned, nn.Module) else None
        if distributed.joined():
            gpu = [self.device] if self.device.type == "cuda" else None
            self._parallel = DistributedDataParallel(self._parallel, device_ids=gpu)
            if self._weighting is not None:
                self._weighting = DistributedDataParallel(self._weighting, device_ids=gpu)

    def batch(self, step: int) -> Batch:
        """This process's share of the batch of a step."""
        images, labels = self._batches(step)
        no_class, seed = self.model.classes or 0, self.experiment.seed
        return make_batch(images, labels, no_class, self.objective, self.experiment.train, seed, step)

    def step(self, batch: Batch) -> Tensor | None:
        """One optimizer step on a global batch, of which each process brings its share.

        The norm of the gradient, on the device; None where the step was skipped.

        Raises:
            Diverged: the loss or the norm is not finite, and the experiment says to stop then.
        """
        train = self.experiment.train
        rate = train.rate.at(self.images, self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # Dropout's masks, too, are a function of the step; each process has its own, for its own images.
        restart(self._layers, self.experiment.seed, "layers", self.images, distributed.rank())
        objective = self.objective if self._weighting is None else replace(self.objective, weighting=self._weighting)
        teacher = self.teacher.network if self.teacher else None
        loss, losses = torch.zeros((), device=self.device), list[Tensor]()
        for number, part in enumerate(_parts(batch, train.accumulate)):
            moment = self._moment(self.images // train.batch, number)
            with autocast(self.precision, self.device), self._alone(number < train.accumulate - 1):
                each = training_loss(self.model, objective, self._parallel, part, moment, teacher)
                share = (sent(part.importance.float(), each.device) * each).mean() / train.accumulate
                share.backward()  # type: ignore[no-untyped-call]
            loss += share.detach()
            losses.append(each.detach())
        norm = nn.utils.clip_grad_norm_(self.parameters, train.clip or math.inf, foreach=self._at_once)
        if self.looks_at_each_step:
            loss = distributed.mean_of(loss)
            if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
                self.optimizer.zero_grad(set_to_none=True)
                if train.on_nonfinite == "stop":
                    raise self._diverged(batch, self.images // train.batch, untouched=True)
                self.skipped += 1
                self.images += train.batch
                return None
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if isinstance(self.objective.levels, AdaptiveLevels):
            self.objective.levels.update(distributed.in_turn(batch.level), distributed.in_turn(torch.cat(losses)))
        self.images += train.batch
        for average in [*self.averages.values(), *([self.teacher] if self.teacher else [])]:
            average.update(self.images, train.batch)
        self._losses.append(loss)
        return norm

    def run(self, callbacks: Sequence[Callback]) -> None:
        """Train to the end, with what happens beside it, in that order.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the step is finished, and the callbacks that want to know have been called.
            Diverged: the loss or its gradient is not finite.
        """
        batch = self.experiment.train.batch
        self.network.train()
        with stop_signals() as stop, Progress("training", self.total, self.images) as bar, contextlib.closing(self._batches):
            since, images_since = time.monotonic(), self.images
            while self.images < self.total:
                before = self.images
                self._norm = self.step(self.batch(before // batch))
                bar.advance(batch, self._note)
                stopping = distributed.any_of(bool(stop))
                due = [callback for callback in callbacks if callback.is_due(before, self.images, self.total, stopping)]
                if not due and not stopping:
                    continue
                self._mean = self._mean_loss()  # waits for the device
                paused = time.monotonic()
                self.seconds += paused - since
                self._speed = (self.images - images_since) / max(paused - since, 1e-9)
                for callback in due:
                    callback.call(self.images)
                self.network.train()
                if stopping:
                    raise Interrupted(stop[0] if stop else signal.SIGTERM)
                since, images_since = time.monotonic(), self.images
                bar.pause(since - paused)

    @property
    def images_per_row(self) -> int:
        """How many images are trained on between two rows of metrics."""
        return max(1, self.total // self.experiment.train.batch // ROWS) * self.experiment.train.batch

    def row(self) -> dict[str, float]:
        """The metrics of the steps since the last row, which this one ends; for a callback.

        Loss and gradient norm are missing where the steps were skipped.
        """
        train = self.experiment.train
        row = {"learning_rate": train.rate.at(self.images - train.batch, self.total)}
        if self._mean is not None:
            row["loss"] = self._mean
        if self._norm is not None:
            row["gradient_norm"] = float(self._norm)
        if train.on_nonfinite == "skip":
            row["skipped_steps"] = self.skipped
        self._note = "" if self._mean is None else f"loss {self._mean:.4f}"
        self._note += f", {self.skipped} steps skipped" if self.skipped else ""
        self._losses.clear()
        return row | {"images_per_second": self._speed, "train_seconds": self.seconds}

    def sampling_network(self, weights: str) -> nn.Module:
        """The network that holds those weights, `raw` or an average's, in evaluation mode."""
        return self.network.eval() if weights == "raw" else self.averages[weights].network

    def state(self) -> StateDict:
        """All that the next step depends on; to be called in every process."""
        return {
            "network": self.network.state_dict(),
            "averages": {name: average.network.state_dict() for name, average in self.averages.items()},
            "optimizer": self.optimizer.state_dict(),
            "images": self.images,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "losses": [float(distributed.mean_of(loss)) for loss in self._losses],
            **{name: part.state_dict() for name, part in self._stateful().items()},
        }

    def _stateful(self) -> dict[str, Any]:
        """What of the objective changes in training: levels that adapt, a weighting that is learned, its teacher."""
        levels, weighting = self.objective.levels, self.objective.weighting
        found: dict[str, Any] = {"levels": levels} if isinstance(levels, AdaptiveLevels) else {}
        if self.teacher:
            found["teacher"] = self.teacher.network
        return found | ({"weighting": weighting} if isinstance(weighting, nn.Module) else {})

    def load_state(self, state: StateDict) -> None:
        """Resume from `state()`."""
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])
        self.network.load_state_dict(state["network"])
        for name, average in self.averages.items():
            average.network.load_state_dict(state["averages"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.images, self.seconds, self.skipped = state["images"], state["seconds"], state["skipped"]
        self._losses = [torch.tensor(loss, device=self.device) for loss in state["losses"]]

    def _moment(self, step: int, part: int | None = None) -> Moment:
        """That of a step, or of one of the parts that its batch is worked on in."""
        train = self.experiment.train
        parts = (0, 1) if part is None else (part, train.accumulate)
        return Moment(self.experiment.seed, step, step * train.batch / self.total, train.batch, *parts)

    def _alone(self, alone: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients meet those of the other processes only at the last part of a batch."""
        if alone and isinstance(self._parallel, DistributedDataParallel):
            return self._parallel.no_sync()  # type: ignore[no-any-return]
        return contextlib.nullcontext()

    def _mean_loss(self) -> float | None:
        """Over the steps since the last row; None where all of them were skipped.

        Raises:
            Diverged: it is not finite.
        """
        if not self._losses:
            return None
        losses = distributed.mean_of(torch.stack(self._losses))
        if not bool(losses.isfinite().all()):
            first = int((~losses.isfinite()).nonzero()[0])
            step = self.images // self.experiment.train.batch - len(losses) + first
            raise self._diverged(self.batch(step), step, untouched=False)
        return float(losses.mean())

    def _diverged(self, batch: Batch, step: int, untouched: bool) -> Diverged:
        """What happened, with the levels of the images whose own loss is NaN or infinite, where the weights can still tell."""
        train = self.experiment.train
        with torch.no_grad(), autocast(self.precision, self.device):
            teacher = self.teacher.network if self.teacher else None
            losses = training_loss(self.model, self.objective, self.network, batch, self._moment(step), teacher)
            guilty = ~losses.isfinite()
        levels, guilty = distributed.in_turn(batch.level), distributed.in_turn(guilty.float()) > 0
        levels = levels[guilty] if untouched and bool(guilty.any()) else levels
        low, high = float(levels.min()), float(levels.max())
        where = f"level {low:.1f}" if low == high else f"levels {low:.1f} to {high:.1f}"
        return Diverged(
            f"the loss or its gradient is not finite at step {step} (after {step * train.batch:,} images), {where},"
            f" learning rate {train.rate.at(step * train.batch, self.total):.3g};"
            " lower train.rate.peak, set train.clip, or skip such steps by train.on_nonfinite=skip",
            batch, untouched,
        )  # fmt: skip


def _parts(batch: Batch, accumulate: int) -> Iterator[Batch]:
    """A batch in so many parts."""
    pieces: list[Any] = [[None] * accumulate if tensor is None else tensor.chunk(accumulate) for tensor in batch]
    return (Batch(*piece) for piece in zip(*pieces, strict=True))
