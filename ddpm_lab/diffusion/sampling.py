"""Images from a model: any number, in any batch size, always the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ddpm_lab.diffusion.model import Model, Procedure
from ddpm_lab.diffusion.process import to_uint8
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.device import Precision, autocast
from ddpm_lab.runtime.seeding import ImageNoise
from ddpm_lab.runtime.signals import NotFinite
from registry.errors import BadInput
from registry.samplers import Denoise, Denoised, Grid

OnStep = Callable[[int, int, Tensor], object]
Seen = Callable[[Tensor, Tensor], object]


class ImageSampler:
    """A network with a procedure for sampling from it.

    Image i of a seed has its own noise, so neither the batch size nor the number of images changes it.
    """

    def __init__(
        self, model: Model, network: nn.Module, procedure: Procedure, shape: tuple[int, int, int], precision: Precision
    ) -> None:
        self.model, self.network, self.procedure = model, network, procedure
        self.shape, self.precision = shape, precision
        self.device = next(network.parameters()).device

    def labels(self, count: int, chosen: Sequence[int] | None = None) -> Tensor | None:
        """The chosen classes in turn, or all of them; None for an unconditional model. int64 [count]

        Raises:
            BadInput: a class is chosen that the model does not have.
        """
        classes = self.model.classes
        if chosen is None:
            return None if classes is None else torch.arange(count) % classes
        if classes is None:
            raise BadInput("this run has no classes; train one with `classes=true`")
        if wrong := [one for one in chosen if not 0 <= one < classes]:
            raise BadInput(f"class {wrong[0]} is not one of this run's, 0 to {classes - 1}")
        return torch.tensor(chosen)[torch.arange(count) % len(chosen)]

    def images(
        self, count: int, seed: int, batch: int, labels: Tensor | None, on_step: OnStep | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """`count` images in batches of at most `batch`: the index of the first one, and uint8 [b, C, H, W].

        `on_step` is told how they come about, as `StepsSeen` says.

        Several processes are dealt the batches in turn. They are the batches of one process, so the images are the same.

        Raises:
            NotFinite: some of them held NaN or infinite numbers; raised at the end, in every process alike.
        """
        bad = torch.zeros((), dtype=torch.long)
        starts = distributed.dealt(range(0, count, batch))
        for number, start in enumerate(starts):
            indices = range(start, min(start + batch, count))
            seen = on_step and StepsSeen(on_step, self.procedure.grid, number, len(starts))
            images = self.unrounded(indices, seed, labels, seen)
            if seen:
                seen.finish(images)
            bad += (~images.isfinite()).flatten(1).any(dim=1).sum().cpu()
            yield start, to_uint8(images).cpu()
        if wrong := int(distributed.sum_of(bad)):
            raise NotFinite(f"{wrong:,} of {count:,} sampled images are not finite (they hold NaN or infinite numbers)")

    def trajectory(self, count: int, seed: int, labels: Tensor | None, frames: int) -> Tensor:
        """How `count` images come about: uint8 [frames, count, C, H, W], the first pure noise, the last the images."""
        seen: list[Tensor] = []
        seen.append(self.unrounded(range(count), seed, labels, lambda x, level: seen.append(x)))
        chosen = torch.linspace(0, len(seen) - 1, frames).round().long()
        return torch.stack([to_uint8(seen[int(i)]) for i in chosen]).cpu()

    @torch.inference_mode()
    def unrounded(self, indices: range, seed: int, labels: Tensor | None, seen: Seen | None = None) -> Tensor:
        """The images of these numbers before they are quantised, [n, C, H, W]; `seen` is called with each that the network is
        shown, and its noise level."""
        noise = ImageNoise(seed, indices, self.shape, self.device)
        y = None if labels is None else labels[indices.start : indices.stop].to(self.device)
        diffusion, procedure = self.model.diffusion, self.procedure
        with autocast(self.precision, self.device):
            denoise = procedure.denoise(diffusion, self.network, y)
            return procedure.sampler(denoise if seen is None else _watched(denoise, seen), procedure.grid, noise)


class StepsSeen:
    """Calls `on_step(step, total, images)` with the images of a batch before each step of the sampler, step 0 being pure noise,
    and when it is finished. They are uint8 [b, C, H, W]; batches follow each other up to `total`, the later ones without noise.

    A step is a noise level of the sampling schedule. A sampler that shows the network several images there (of second order,
    or with churn) is told of by the last of them, which is the one that the step begins with.
    """

    def __init__(self, on_step: OnStep, grid: Grid, batch: int, batches: int) -> None:
        self._tell, self._levels = on_step, grid.levels
        self._first, self._total = batch * len(grid), batches * len(grid)
        self._step, self._image = 0, torch.empty(0)

    def __call__(self, x: Tensor, level: Tensor) -> None:
        step = min(int((self._levels > level).sum()), len(self._levels) - 1)
        if step > self._step:
            self._show()
            self._step = step
        self._image = x

    def finish(self, images: Tensor) -> None:
        """The last step has given the images."""
        self._show()
        self._step, self._image = len(self._levels), images
        self._show()

    def _show(self) -> None:
        if self._step == 0 and self._first:
            return
        # This waits for the device, which is what whoever looks at each step asks for.
        with torch.inference_mode(False):  # so that the images may be used for anything
            images = to_uint8(self._image).cpu()
            self._tell(self._first + self._step, self._total, images.clone())


def _watched(denoise: Denoise, seen: Seen) -> Denoise:
    """The same denoiser, which tells of each image that it is shown."""

    def watched(x: Tensor, level: Tensor, to: Tensor | None = None) -> Denoised:
        seen(x, level)
        return denoise(x, level, to)

    return watched
