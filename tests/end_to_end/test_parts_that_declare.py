"""One file adds a part with all that the lab needs to know of it, and an experiment that names the file uses it."""

from pathlib import Path

import yaml
from conftest import Quick
from safetensors.torch import load_file

from ddpm_lab.testing import conforms
from registry import plugins
from registry.optimizers import OPTIMIZERS

FEW = ["train.images=64", "evaluate.features=[]", "train.threads=1"]

OPTIMIZER = '''"""A plugin."""
import torch
from registry.optimizers import OPTIMIZERS
from registry.options import Positive


@OPTIMIZERS.register("sign")
class Sign(torch.optim.Optimizer):
    """The sign of the gradient, or none where it is below `least`; no source."""

    def __init__(self, params, lr, *, least: Positive = 1e-3):
        super().__init__(params, {"lr": lr, "least": least})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    weights -= group["lr"] * weights.grad.sign() * (weights.grad.abs() > group["least"])
'''


def _experiment(folder: Path, plugin: str, lines: str) -> Path:
    (folder / "mine.py").write_text(plugin)
    (folder / "mine.yaml").write_text(f"extends: smoke\nplugins: [mine.py]\n{lines}\n")
    return folder / "mine.yaml"


def test_an_optimizer(tmp_path: Path, quick: Quick) -> None:
    file = _experiment(tmp_path, OPTIMIZER, "train: {optimizer: {name: sign, least: 1e-4}}")
    done = quick("run", file, *FEW, "train.rate.peak=1e-3", "train.rate.warmup=0", "--results", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "results/latest"
    assert yaml.safe_load((run / "resolved.yaml").read_text())["train"]["optimizer"] == {"name": "sign", "least": 1e-4}
    assert all(bool(value.isfinite().all()) for value in load_file(run / "raw.safetensors").values())
    wrong = quick("check", file, "train.optimizer.leest=1")
    assert "did you mean 'least'?" in wrong.stderr
    plugins.load_file(tmp_path / "mine.py")
    conforms(OPTIMIZERS.part("sign").make)


def test_an_optimizer_that_fails_is_named_with_its_line(tmp_path: Path, quick: Quick) -> None:
    plugin = OPTIMIZER.replace("weights -= ", "weights -= nothing + ").replace('"sign"', '"unsigned"')
    done = quick("check", _experiment(tmp_path, plugin, "train: {optimizer: unsigned}"), *FEW)
    assert done.returncode == 2
    assert "optimizer: 'unsigned' takes no step" in done.stderr
    assert "mine.py', line 19" in done.stderr
