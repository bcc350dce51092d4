"""A mixture on a line, learnt in about a minute: one jump of each few-step network takes noise to data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Quick
from scipy.stats import wasserstein_distance

from ddpm_lab.config.load import load_recipe
from ddpm_lab.diffusion.sampling import ImageSampler
from ddpm_lab.runner.prepare import prepare

COUNT = 4096
COMMON = [
    "backbone={name: mlp, width: 64, depth: 2}", "schedule=flow", "target=velocity", "levels=uniform", "classes=false",
    "train.batch=256", "train.images=512000", "train.optimizer=AdamW", "train.ema=null", "train.threads=1",
    "train.rate={peak: 2e-3, warmup: 0, decay: linear, decay_from: 0.85}",
    "evaluate.metrics=[]", "evaluate.every=null", "sampling.clip=false", "sampling.grid=trailing",
]  # fmt: skip
SLOWLY = ["train.rate={peak: 3e-4, warmup: 0, decay: linear, decay_from: 0.5}", "train.images=1024000"]
OBJECTIVES = {
    "{name: consistency, huber: 0, stages: 8}": ["sampling.sampler=consistency", *SLOWLY],
    "{name: shortcut, share: 0.75, doublings: 4}": ["sampling.sampler=flow_map", "train.images=1024000"],
    "{name: progressive, steps: 32, halvings: 5}": ["sampling.sampler=ddim"],
    "{name: progressive_map, solver_steps: 8}": ["sampling.sampler=flow_map"],
}


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of one pixel: a third of them near -0.6, the others near 0.4."""
    rng = np.random.default_rng(0)
    pixels = np.where(rng.random(COUNT) < 1 / 3, -0.6, 0.4) + 0.1 * rng.standard_normal(COUNT)
    file = tmp_path_factory.mktemp("mixture") / "mixture.npz"
    images = ((pixels + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    np.savez(file, arr_0=images[:, None, None, None])
    return file


@pytest.fixture(scope="module")
def denoiser(mixture: Path, quick: Quick) -> Path:
    """The run that each objective starts from."""
    words = [f"dataset={{name: npz, file: {mixture}}}", *COMMON, "evaluate.n=8", "sampling.sampler=heun"]
    done = quick("run", "smoke", *words, "--results", mixture.parent / "results")
    assert done.returncode == 0, done.stderr
    return (mixture.parent / "results/latest").resolve()


def _error(mixture: Path, *overrides: str, train: bool = True) -> float:
    """W1 between samples and data, in pixels of [-1, 1]."""
    words = [f"dataset={{name: npz, file: {mixture}}}", *COMMON, *overrides]
    found = prepare(load_recipe("smoke", words).experiment, torch.device("cpu"), lambda: 1)
    if train:
        for step in range(found.trainer.total // 256):
            found.trainer.step(found.trainer.batch(step))
    sampler: ImageSampler = found.sampler(found.trainer.sampling_network("raw"))
    images = torch.cat([batch for _, batch in sampler.images(COUNT, 0, 1024, None)])
    return float(wasserstein_distance(images.flatten().numpy() / 127.5, np.load(mixture)["arr_0"].flatten() / 127.5))


@pytest.mark.slow
def test_the_denoiser_that_they_start_from_needs_its_steps(mixture: Path, denoiser: Path) -> None:
    start = f"train.start={{run: {denoiser}, weights: raw}}"
    assert _error(mixture, start, "sampling.sampler=heun", "sampling.steps=32", train=False) < 0.03
    assert _error(mixture, start, "sampling.sampler=ddim", "sampling.steps=1", train=False) > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_one_jump_takes_noise_to_data(mixture: Path, denoiser: Path, objective: str) -> None:
    start = f"train.start={{run: {denoiser}, weights: raw}}"
    assert _error(mixture, start, f"objective={objective}", "sampling.steps=1", *OBJECTIVES[objective]) < 0.06
