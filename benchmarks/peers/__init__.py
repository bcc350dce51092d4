"""The programs that the lab is measured against, each with its own network, loop and settings, behind one interface."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from registry.datasets import DATASETS, ImageSet


class Peer(ABC):
    """A program in training on Fashion-MNIST."""

    title: ClassVar[str]
    settings: ClassVar[str]  # where they come from, and what they are
    batch: ClassVar[int]
    steps: ClassVar[int]  # network evaluations for each image

    network: nn.Module  # in training
    sampled: nn.Module  # that images are sampled with: an average, where the program keeps one

    @abstractmethod
    def train(self, steps: int) -> None:
        """So many steps of the program's own loop, data included."""

    @abstractmethod
    def sample(self, count: int, steps: int) -> Tensor:
        """Images of `sampled`, by the program's own sampler: uint8 [count, 1, 28, 28]."""

    @abstractmethod
    def inputs(self, count: int) -> tuple[Any, ...]:
        """What `network` takes for so many images, to count its operations."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that training resumes from."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from `state()`."""


# Imported when they are needed: the time that an import takes is measured, too.
PEERS = {
    "lab": "lab.Lab",
    "lab_annotated": "lab.LabAnnotated",
    "bare": "lab.Bare",
    "annotated": "annotated.Annotated",
    "lucidrains": "lucidrains.Lucidrains",
    "diffusers": "hf_diffusers.HfDiffusers",
    "smalldiffusion": "small_diffusion.SmallDiffusion",
}


def kind(name: str) -> type[Peer]:
    """The class of that program; importing it imports the program."""
    module, _, called = PEERS[name].partition(".")
    return getattr(importlib.import_module(f"benchmarks.peers.{module}"), called)  # type: ignore[no-any-return]


def fashion_mnist() -> ImageSet:
    """The data that all learn from."""
    return DATASETS.configure("fashion_mnist", {})()  # type: ignore[no-any-return]


class Pictures(Dataset[Any]):
    """Images as torchvision's data sets give them: a PIL image at a time, then the transforms."""

    def __init__(self, *steps: Any) -> None:
        self.images = fashion_mnist().train.rows(torch.arange(60_000))
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.transform(to_pil_image(self.images[index]))


def without_end(loader: DataLoader[Any]) -> Iterator[Any]:
    """Epoch after epoch."""
    while True:
        yield from loader


def to_uint8(images: Tensor) -> Tensor:
    """[0, 1] -> uint8, rounded to the nearest."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
