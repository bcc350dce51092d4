"""Images from a model: any number, in any batch size, always the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ddpm_lab.diffusion.model import Model, Procedure
from ddpm_lab.diffusion.process import to_uint8
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.device import Precision, autocast
from ddpm_lab.runtime.seeding import ImageNoise
from ddpm_lab.runtime.signals import NotFinite
from registry.errors import BadInput
from registry.samplers import Denoise, Denoised


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

    def labels(self, count: int, chosen: int | None = None) -> Tensor | None:
        """One class for all, or the classes in turn; None for an unconditional model. int64 [count]

        Raises:
            BadInput: a class is chosen that the model does not have.
        """
        classes = self.model.classes
        if chosen is None:
            return None if classes is None else torch.arange(count) % classes
        if classes is None:
            raise BadInput("this run has no classes; train one with `classes=true`")
        if not 0 <= chosen < classes:
            raise BadInput(f"class {chosen} is not one of this run's, 0 to {classes - 1}")
        return torch.full((count,), chosen)

    def images(self, count: int, seed: int, batch: int, labels: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        """`count` images in batches of at most `batch`: the index of the first one, and uint8 [b, C, H, W].

        Several processes are dealt the batches in turn. They are the batches of one process, so the images are the same.

        Raises:
            NotFinite: some of them held NaN or infinite numbers; raised at the end, in every process alike.
        """
        bad = torch.zeros((), dtype=torch.long)
        for start in distributed.dealt(range(0, count, batch)):
            indices = range(start, min(start + batch, count))
            images = self.unrounded(indices, seed, labels, seen=None)
            bad += (~images.isfinite()).flatten(1).any(dim=1).sum().cpu()
            yield start, to_uint8(images).cpu()
        if wrong := int(distributed.sum_of(bad)):
            raise NotFinite(f"{wrong:,} of {count:,} sampled images are not finite (they hold NaN or infinite numbers)")

    def trajectory(self, count: int, seed: int, labels: Tensor | None, frames: int) -> Tensor:
        """How `count` images come about: uint8 [frames, count, C, H, W], the first pure noise, the last the images."""
        seen: list[Tensor] = []
        seen.append(self.unrounded(range(count), seed, labels, seen))
        chosen = torch.linspace(0, len(seen) - 1, frames).round().long()
        return torch.stack([to_uint8(seen[int(i)]) for i in chosen]).cpu()

    @torch.inference_mode()
    def unrounded(self, indices: range, seed: int, labels: Tensor | None, seen: list[Tensor] | None = None) -> Tensor:
        """The images of these numbers before they are quantised, [n, C, H, W]; `seen` gets each that the network is shown."""
        noise = ImageNoise(seed, indices, self.shape, self.device)
        y = None if labels is None else labels[indices.start : indices.stop].to(self.device)
        diffusion, procedure = self.model.diffusion, self.procedure
        with autocast(self.precision, self.device):
            denoise = procedure.denoise(diffusion, self.network, y)
            return procedure.sampler(denoise if seen is None else _watched(denoise, seen), procedure.grid, noise)


def _watched(denoise: Denoise, seen: list[Tensor]) -> Denoise:
    """The same denoiser, noting down each image that it is shown."""

    def watched(x: Tensor, level: Tensor, to: Tensor | None = None) -> Denoised:
        seen.append(x)
        return denoise(x, level, to)

    return watched
