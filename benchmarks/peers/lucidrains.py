"""denoising-diffusion-pytorch: its Unet, GaussianDiffusion and Trainer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from denoising_diffusion_pytorch import GaussianDiffusion, Trainer, Unet
from torch import Tensor
from torchvision.io import write_png

from benchmarks.peers import Peer, fashion_mnist, to_uint8
from ddpm_lab.runtime.console import say

PICTURES = Path("results/bench/pictures")


class Lucidrains(Peer):
    """P. Wang's denoising-diffusion-pytorch."""

    title = "lucidrains' denoising-diffusion-pytorch"
    settings = "its README's Trainer (Adam at 8e-5, batch 32, EMA 0.995, v target, sigmoid schedule), Unet(28, (1, 2, 4))"
    batch = 32
    steps = 50  # its README samples with 250 of 1,000

    def __init__(self) -> None:
        network = Unet(dim=28, dim_mults=(1, 2, 4), channels=1)
        diffusion = GaussianDiffusion(network, image_size=28, timesteps=1000, sampling_timesteps=self.steps)
        self.trainer = Trainer(
            diffusion, str(_pictures()), train_batch_size=self.batch, train_lr=8e-5, gradient_accumulate_every=1,
            ema_decay=0.995, calculate_fid=False, augment_horizontal_flip=True, save_and_sample_every=10**9,
            results_folder="results/bench/lucidrains",
        )  # fmt: skip
        self.network, self.sampled = network, self.trainer.ema.ema_model

    def train(self, steps: int) -> None:
        self.trainer.train_num_steps = self.trainer.step + steps
        self.trainer.train()

    def sample(self, count: int, steps: int) -> Tensor:
        self.sampled.eval()
        self.sampled.sampling_timesteps = steps
        return to_uint8(self.sampled.sample(batch_size=count))

    def inputs(self, count: int) -> tuple[Any, ...]:
        return torch.randn(count, 1, 28, 28), torch.zeros(count)

    def state(self) -> dict[str, Any]:
        trainer = self.trainer
        parts = {"network": self.network, "ema": trainer.ema, "optimizer": trainer.opt}
        return {"step": trainer.step} | {name: part.state_dict() for name, part in parts.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.trainer.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.trainer.ema.load_state_dict(state["ema"])
        self.trainer.opt.load_state_dict(state["optimizer"])


def _pictures() -> Path:
    """A folder of PNGs, as its Trainer wants them."""
    done = PICTURES / ".complete"
    if not done.exists():
        say(f"writing 60,000 images to {PICTURES}")
        PICTURES.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(fashion_mnist().train.rows(torch.arange(60_000))):
            write_png(image, os.fspath(PICTURES / f"{number:05d}.png"), compression_level=1)
        done.touch()
    return PICTURES
