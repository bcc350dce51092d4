"""The annotated diffusion recipe as published: float32, transforms image by image, no average, attention step by step."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms

from benchmarks.peers import Peer, Pictures, to_uint8, without_end
from benchmarks.peers.annotated_network import PublishedUNet, ResNet

TIMESTEPS = 200


class Annotated(Peer):
    """Rogge & Rasul 2022, with ResNet blocks."""

    title = "annotated diffusion, as published"
    settings = "Rogge & Rasul 2022: Adam at 1e-3, batch 128, Huber loss, T = 200, betas from 1e-4 to 0.02, flips, five epochs"
    batch = 128
    steps = TIMESTEPS

    def __init__(self) -> None:
        self.network = self.sampled = PublishedUNet(ResNet)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        pictures = Pictures(
            transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Lambda(lambda image: 2 * image - 1)
        )
        self.batches = without_end(DataLoader(pictures, batch_size=self.batch, shuffle=True, drop_last=True))
        self.betas = torch.linspace(1e-4, 0.02, TIMESTEPS)
        self.alpha_bar = (1 - self.betas).cumprod(0)

    def train(self, steps: int) -> None:
        self.network.train()
        for _ in range(steps):
            x0 = next(self.batches)
            t = torch.randint(0, TIMESTEPS, (len(x0),))
            eps = torch.randn_like(x0)
            alpha_bar = self.alpha_bar[t][:, None, None, None]
            x_t = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps
            self.optimizer.zero_grad()
            loss = F.smooth_l1_loss(self.network(x_t, t), eps)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            loss.item()  # the published loop prints it now and then; it waits for it at each step

    @torch.no_grad()
    def sample(self, count: int, steps: int) -> Tensor:
        """Ho et al. 2020, algorithm 2; fewer steps than T are its last ones, which takes as long."""
        self.network.eval()
        x = torch.randn(count, 1, 28, 28)
        for t in reversed(range(steps)):
            beta, alpha_bar = self.betas[t], self.alpha_bar[t]
            eps = self.network(x, torch.full((count,), t))
            x = (x - beta / (1 - alpha_bar).sqrt() * eps) / (1 - beta).sqrt()
            if t:
                below = self.alpha_bar[t - 1]
                x = x + (beta * (1 - below) / (1 - alpha_bar)).sqrt() * torch.randn_like(x)
        return to_uint8((x + 1) / 2)

    def inputs(self, count: int) -> tuple[Any, ...]:
        return torch.randn(count, 1, 28, 28), torch.zeros(count, dtype=torch.long)

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
