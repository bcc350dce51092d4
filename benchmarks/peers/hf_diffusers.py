"""diffusers: its UNet2DModel and DDPMScheduler in the loop of its training tutorial."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms

from benchmarks.peers import Peer, Pictures, to_uint8, without_end

SIDE = 32  # what its network halves three times
EPOCHS = 50


class HfDiffusers(Peer):
    """Hugging Face's diffusers."""

    title = "diffusers"
    settings = (
        "its tutorial (AdamW at 1e-4 with 500 steps of warm-up, batch 16, gradient clipping, no EMA, flips),"
        " UNet2DModel 32/64/128 at 32 x 32"
    )
    batch = 16
    steps = 50  # by its DDIM; the tutorial samples with 1,000

    def __init__(self) -> None:
        self.network = self.sampled = UNet2DModel(
            sample_size=SIDE, in_channels=1, out_channels=1, layers_per_block=2, block_out_channels=(32, 64, 128),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip
        pictures = Pictures(
            transforms.Pad(2), transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize([0.5], [0.5])
        )
        loader = DataLoader(pictures, batch_size=self.batch, shuffle=True)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)
        self.rate = get_cosine_schedule_with_warmup(self.optimizer, 500, len(loader) * EPOCHS)
        self.accelerator = Accelerator(mixed_precision="no")
        self.model, self.optimizer, loader, self.rate = self.accelerator.prepare(
            self.network, self.optimizer, loader, self.rate
        )
        self.batches = without_end(loader)
        self.noise = DDPMScheduler(num_train_timesteps=1000)

    def train(self, steps: int) -> None:
        self.model.train()
        for _ in range(steps):
            x0 = next(self.batches)
            eps = torch.randn(x0.shape)
            t = torch.randint(0, self.noise.config.num_train_timesteps, (len(x0),), dtype=torch.int64)
            with self.accelerator.accumulate(self.model):
                loss = F.mse_loss(self.model(self.noise.add_noise(x0, eps, t), t, return_dict=False)[0], eps)
                self.accelerator.backward(loss)
                self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.rate.step()
                self.optimizer.zero_grad()
            loss.detach().item()

    @torch.no_grad()
    def sample(self, count: int, steps: int) -> Tensor:
        self.network.eval()
        sampler = DDIMScheduler(num_train_timesteps=1000)
        sampler.set_timesteps(steps)
        x = torch.randn(count, 1, SIDE, SIDE)
        for t in sampler.timesteps:
            x = sampler.step(self.network(x, t).sample.float(), t, x).prev_sample
        return to_uint8((x[:, :, 2:-2, 2:-2] + 1) / 2)

    def inputs(self, count: int) -> tuple[Any, ...]:
        return torch.randn(count, 1, SIDE, SIDE), torch.zeros(count)

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name).state_dict() for name in ("network", "optimizer", "rate")}

    def load_state(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            getattr(self, name).load_state_dict(value)
