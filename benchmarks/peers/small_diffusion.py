"""smalldiffusion: its DiT, schedule and training_loop, as in its Fashion-MNIST example."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from smalldiffusion import DiT, MappedDataset, ScheduleDDPM, img_train_transform, samples, training_loop
from torch import Tensor
from torch.utils.data import DataLoader
from torch_ema import ExponentialMovingAverage

from benchmarks.peers import Peer, Pictures, to_uint8


class SmallDiffusion(Peer):
    """Yuan's smalldiffusion."""

    title = "smalldiffusion"
    settings = (
        "its examples/fashion_mnist_dit.py (AdamW at 1e-3, EMA 0.99, flips, DiT of width 192 and depth 6), but batch 128"
        " instead of 1,024, which took 19 GB and 60 s a step"
    )
    batch = 128
    steps = 20  # with its accelerated sampler, gam 1.6

    def __init__(self) -> None:
        self.network = self.sampled = DiT(in_dim=28, channels=1, patch_size=2, depth=6, head_dim=32, num_heads=6, mlp_ratio=4.0)
        self.schedule = ScheduleDDPM(beta_start=1e-4, beta_end=0.02, N=1000)
        self.accelerator = Accelerator()
        self.average = ExponentialMovingAverage(self.network.parameters(), decay=0.99)
        self.optimizer_state: dict[str, Any] | None = None
        self._loop: Any = None

    def train(self, steps: int) -> None:
        if self._loop is None:
            pictures = MappedDataset(Pictures(img_train_transform), lambda image: image)
            loader = DataLoader(pictures, batch_size=self.batch, shuffle=True)
            self._loop = training_loop(loader, self.network, self.schedule, epochs=300, lr=1e-3, accelerator=self.accelerator)
        for _ in range(steps):
            self.now = next(self._loop)  # it yields before it takes the step
            if self.optimizer_state is not None:
                self.now.optimizer.load_state_dict(self.optimizer_state)
                self.optimizer_state = None
            self.now.loss.item()
            self.average.update()

    def sample(self, count: int, steps: int) -> Tensor:
        with self.average.average_parameters():
            *_, x0 = samples(
                self.network, self.schedule.sample_sigmas(steps), gam=1.6, batchsize=count, accelerator=self.accelerator
            )
        return to_uint8((x0 + 1) / 2)

    def inputs(self, count: int) -> tuple[Any, ...]:
        return torch.randn(count, 1, 28, 28), torch.ones(count, 1, 1, 1)

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(), "average": self.average.state_dict(),
            "optimizer": self.now.optimizer.state_dict(),
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer_state = state["optimizer"]
