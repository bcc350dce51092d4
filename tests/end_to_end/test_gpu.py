"""What only a GPU can show; skipped where there is none."""

import pytest
import torch

from ddpm_lab.config.load import load_recipe
from ddpm_lab.diffusion.build import build_data, build_model, build_objective
from ddpm_lab.diffusion.model import DataShape
from ddpm_lab.training.trainer import Trainer

pytestmark = pytest.mark.gpu


def _trainer(*overrides: str) -> Trainer:
    experiment = load_recipe("smoke", [*overrides, "train.images=6400", "train.batch=64"]).experiment
    data, device = build_data(experiment), torch.device("cuda")
    model = build_model(experiment, DataShape.of(data), device)
    return Trainer(experiment, model, build_objective(experiment, DataShape.of(data), model), data.train, "bf16")


@pytest.mark.parametrize("optimizer", ["AdamW", "{name: Muon, weight_decay: 0.0, adjust_lr_fn: match_rms_adamw}"])
def test_a_step_never_waits_for_the_gpu(optimizer: str) -> None:
    trainer = _trainer(f"train.optimizer={optimizer}", "classes=true")
    trainer.step(trainer.batch(0))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")  # whatever waits raises
    try:
        for step in range(1, 4):
            trainer.step(trainer.batch(step))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.stack(trainer._losses).isfinite().all()


def test_a_gpu_learns_what_a_cpu_learns() -> None:
    on_gpu = _trainer("train.precision=fp32", "train.optimizer=SGD")
    on_gpu.precision = "fp32"
    experiment = on_gpu.experiment
    data, cpu = build_data(experiment), torch.device("cpu")
    model = build_model(experiment, DataShape.of(data), cpu)
    on_cpu = Trainer(experiment, model, build_objective(experiment, DataShape.of(data), model), data.train, "fp32")
    for step in range(3):
        batch = on_cpu.batch(step)
        on_cpu.step(batch)
        on_gpu.step(type(batch)(*(None if tensor is None else tensor.cuda() for tensor in batch)))
    losses = [torch.stack(trainer._losses).cpu() for trainer in (on_cpu, on_gpu)]
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-5)
