"""What a part does wrong comes to light before anything is created, with its file and line; and trying it changes nothing."""

import contextlib
import copy
import io
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from ddpm_lab.cli.main import main
from ddpm_lab.config.load import load_recipe
from ddpm_lab.diffusion.build import build_data, build_model, build_objective, build_procedure
from ddpm_lab.diffusion.model import DataShape
from ddpm_lab.inference.trained_run import guides
from ddpm_lab.training.trial import try_parts
from registry.levels.importance import Importance

HEAD = """
import sys
import torch
from torch import nn
from registry.averages import AVERAGES
from registry.backbones import BACKBONES
from registry.datasets import DATASETS, ImageSet, Split
from registry.features import FEATURES
from registry.grids import GRIDS
from registry.guidance import GUIDANCE
from registry.levels import LEVELS
from registry.losses import LOSSES
from registry.samplers import SAMPLERS
from registry.schedules import SCHEDULES
from registry.targets import TARGETS
from registry.variances import VARIANCES, Variance
from registry.weightings import WEIGHTINGS
"""

# What a plugin does wrong, the override that takes it, and what the line says. `HERE` marks the line to be named.
BROKEN = {
    "a loss that raises": (
        """
        @LOSSES.register("mine")
        def mine(prediction, target):
            "Mine."
            return prediction.no_such  # HERE
        """,
        "loss=mine", ["loss: 'mine' fails on two images", "AttributeError", "no_such"],
    ),
    "a loss that is not elementwise": (
        """
        @LOSSES.register("mine")  # HERE
        def mine(prediction, target):
            "Mine."
            return (prediction - target).square().mean()
        """,
        "loss=mine", ["loss: 'mine'", "gives [], where an elementwise loss [2, 1, 16, 16] is expected"],
    ),
    "a loss that ends the process": (
        """
        @LOSSES.register("mine")
        def mine(prediction, target):
            "Mine."
            sys.exit(0)  # HERE
        """,
        "loss=mine", ["loss: 'mine'", "SystemExit"],
    ),
    "a loss that dies of something of its own": (
        """
        class Odd(BaseException):
            pass

        @LOSSES.register("mine")
        def mine(prediction, target):
            "Mine."
            raise Odd("so")  # HERE
        """,
        "loss=mine", ["loss: 'mine'", "Odd: so"],
    ),
    "a network that fails when it is built": (
        """
        @BACKBONES.register("mine")
        class Mine(nn.Module):
            "Mine."
            def __init__(self, image_shape, classes, channels_out):
                raise KeyError("width")  # HERE
        """,
        "backbone=mine", ["backbone: 'mine' cannot be built so", "width"],
    ),
    "a network of other channels": (
        """
        @BACKBONES.register("mine")  # HERE
        class Mine(nn.Module):
            "Mine."
            def __init__(self, image_shape, classes, channels_out):
                super().__init__()
                self.layer = nn.Conv2d(1, 3, 1)
            def forward(self, x, label, y):
                return self.layer(x)
        """,
        "backbone=mine", ["backbone: 'mine'", "gives [2, 3, 16, 16]", "[2, 1, 16, 16] is expected"],
    ),
    "a network without a gradient": (
        """
        @BACKBONES.register("mine")  # HERE
        class Mine(nn.Module):
            "Mine."
            def __init__(self, image_shape, classes, channels_out):
                super().__init__()
                self.layer = nn.Conv2d(1, 1, 1)
            def forward(self, x, label, y):
                return self.layer(x).detach()
        """,
        "backbone=mine", ["backbone: 'mine' cannot be trained"],
    ),
    "levels beyond the path": (
        """
        @LEVELS.register("mine")  # HERE
        class Mine:
            "Mine."
            def __init__(self, path):
                self.steps = path.steps
            def __call__(self, count, rng):
                return torch.full((count,), float(self.steps)), torch.ones(count)
        """,
        "levels=mine", ["levels: 'mine'", "between 0 and T - 1 = 999"],
    ),
    "a target that fails": (
        """
        @TARGETS.register("mine")
        class Mine:
            "Mine."
            def __init__(self, std):
                pass
            def gain(self, alpha, sigma):
                return alpha, sigma
            def condition(self, alpha, sigma, level):
                return 1, level
            def of(self, x0, eps, alpha, sigma):
                return x0 / {}  # HERE
        """,
        "target=mine", ["target: 'mine'", "TypeError"],
    ),
    "a weighting of one number": (
        """
        @WEIGHTINGS.register("mine")
        class Mine:
            "Mine."
            space = "target"
            calls = 0
            def __init__(self, std):
                pass
            def __call__(self, log_snr, slope):
                if len(log_snr) == 2:
                    raise ValueError("two")  # HERE
                return torch.ones_like(log_snr)
        """,
        "weighting=mine", ["weighting: 'mine'", "ValueError: two"],
    ),
    "a weighting that fails on the path": (
        """
        @WEIGHTINGS.register("mine")
        class Mine:
            "Mine."
            space = "target"
            def __init__(self, std):
                pass
            def __call__(self, log_snr, slope):
                return log_snr / 0 if len(log_snr) < 3 else {}[1]  # HERE
        """,
        "weighting=mine", ["weighting: 'mine' fails on the levels of the path", "KeyError: 1"],
    ),
    "a sampler that fails": (
        """
        @SAMPLERS.register("mine")
        def mine(denoise, grid, noise):
            "Mine."
            return grid.no_such  # HERE
        """,
        "sampling.sampler=mine", ["sampler: 'mine'", "no_such"],
    ),
    "a grid that rises": (
        """
        @GRIDS.register("mine")  # HERE
        def mine(path, count):
            "Mine."
            return torch.arange(count, dtype=torch.float64)
        """,
        "sampling.grid=mine", ["grid: 'mine'", "gives levels that do not fall"],
    ),
    "guidance that fails": (
        """
        @GUIDANCE.register("mine")
        def mine(denoise, path, load):
            "Mine."
            def guided(x, level, y):
                return 1 / 0  # HERE
            return guided
        """,
        "sampling.guidance=mine", ["guidance: 'mine'", "ZeroDivisionError"],
    ),
    "a variance that fails": (
        """
        @VARIANCES.register("mine")
        class Mine(Variance):
            "Mine."
            def __call__(self, alpha_t, sigma_t, alpha_s, sigma_s, extra):
                raise ValueError("of its own")  # HERE
        """,
        "variance=mine", ["ValueError: of its own"],
    ),
    "an average that is none": (
        """
        @AVERAGES.register("mine")  # HERE
        class Mine:
            "Mine."
            def __call__(self, images, batch):
                return 1.5
        """,
        "train.ema={name: mine}", ["average: 'mine'", "gives 1.5, where a share from 0 to 1 is expected"],
    ),
    "a schedule that fails": (
        """
        @SCHEDULES.register("mine")
        def mine(steps):
            "Mine."
            return [][0]  # HERE
        """,
        "schedule=mine", ["schedule: 'mine' cannot be built so", "IndexError"],
    ),
    "a data set that fails": (
        """
        @DATASETS.register("mine")
        def mine():
            "Mine."
            return open("no such file")  # HERE
        """,
        "dataset=mine", ["dataset: 'mine' cannot be built so", "no such file"],
    ),
    "images that are floats": (
        """
        @DATASETS.register("mine")  # HERE
        def mine():
            "Mine."
            split = Split(torch.zeros(64, 1, 16, 16), None)
            return ImageSet("mine", split, split, None, "here")
        """,
        "dataset=mine", ["dataset: 'mine'", "torch.uint8 [2, 1, 16, 16] is expected"],
    ),
    "features that fail": (
        """
        @FEATURES.register("mine")
        class Mine:
            "Mine."
            dimension, class_names, classes, hash, resize = 2, None, None, "none", "none"
            def __call__(self, images):
                return images.no_such  # HERE
        """,
        "evaluate.features=[mine]", ["features: 'mine' cannot evaluate images", "no_such"],
    ),
}  # fmt: skip


def _plugin(text: str, folder: Path) -> tuple[Path, int]:
    lines = (HEAD + "\n".join(line.removeprefix("        ") for line in text.splitlines())).splitlines()
    file = folder / "mine.py"
    file.write_text("\n".join(lines) + "\n")
    (line,) = (number for number, line in enumerate(lines, 1) if "# HERE" in line)
    return file, line


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_broken_part_is_named_with_its_line_before_there_is_a_folder(
    case: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, override, words = BROKEN[case]
    file, line = _plugin(text, tmp_path)
    monkeypatch.chdir(tmp_path)
    said, more = io.StringIO(), ["evaluate.features=[]"] if "features" not in override else []
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        sampler = ["sampling.sampler=ancestral"] if "variance" in override else []
        status = main([command, f"{ROOT}/experiments/smoke.yaml", f"plugins=[{file}]", override, *sampler, *more])
    last = said.getvalue().strip().splitlines()[-1]
    assert status == 2, said.getvalue()
    assert f"plugin '{file}', line {line}" in last
    for word in words:
        assert word in last
    assert "Traceback" not in said.getvalue()
    assert not (tmp_path / "results").exists()


ADAPTIVE = ["levels=importance", "weighting=uncertainty", "classes=true", "variance=learned_range"]
NETWORK = "backbone={name: adm_unet, width: 32, multipliers: [1, 2], blocks: 1, head_channels: 32, dropout: 0.5}"


def test_trying_changes_nothing() -> None:
    found = load_recipe(f"{ROOT}/experiments/smoke.yaml", [*ADAPTIVE, NETWORK]).experiment
    data = build_data(found)
    shape = DataShape.of(data)
    model = build_model(found, shape, torch.device("cpu"))
    objective = build_objective(found, shape, model)
    procedure = build_procedure(found.sampling, model, guides(model, shape, None))
    assert isinstance(objective.levels, Importance)
    assert isinstance(objective.weighting, torch.nn.Module)
    before = copy.deepcopy((model.network.state_dict(), objective.levels.state_dict(), objective.weighting.state_dict()))
    training, generators = model.network.training, (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].sum())
    try_parts(found, data, model, objective, procedure, "fp32")
    after = (model.network.state_dict(), objective.levels.state_dict(), objective.weighting.state_dict())
    for old, new in zip(before, after, strict=True):
        assert all(torch.equal(old[name], new[name]) for name in old)
    assert model.network.training == training
    assert all(parameter.grad is None for parameter in [*model.network.parameters(), *objective.weighting.parameters()])
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert np.random.get_state()[1].sum() == generators[2]
