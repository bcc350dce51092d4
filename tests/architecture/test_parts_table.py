"""docs/parts.md names every part, and each of its lines builds and trains the part that it names."""

import re
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from ddpm_lab.config.load import load_recipe
from ddpm_lab.diffusion.build import build_data, build_model, build_objective, build_procedure
from ddpm_lab.diffusion.compatibility import require_fit
from ddpm_lab.diffusion.model import DataShape
from ddpm_lab.diffusion.sampling import ImageSampler
from ddpm_lab.inference.pairs import pairs_of
from ddpm_lab.inference.trained_run import guides
from ddpm_lab.training.trainer import Trainer
from registry.backbones import BACKBONES
from registry.plugins import REGISTRIES

PAGE = (ROOT / "docs/parts.md").read_text()
LINES = re.findall(r"^\| (\w+) \| `(\w+)` \| `(\w+)` \| (?:`(.*)`)? *\|$", PAGE, re.M)
# So small that two steps take a moment; these come after what the line sets.
SMALL = {part.name: [f"backbone.{key}={value}" for key, value in part.traits.trial.items()] for part in BACKBONES}
FEW = ["train.images=16", "train.batch=8", "sampling.steps=4"]


def _overrides(line: str) -> list[str]:
    """The line cut at the spaces before a key; YAML has spaces inside of its brackets too."""
    return re.split(r" (?=[a-z_.0-9]+=)", line) if line else []


def test_the_page_names_every_part_once() -> None:
    built_in = [
        (category, part.name)
        for category, parts in REGISTRIES.items()
        for part in parts
        if part.make.__module__.startswith("registry.")
    ]
    assert sorted((category, name) for category, name, _, _ in LINES) == sorted(built_in)


@pytest.mark.parametrize(
    ("category", "name", "experiment", "line"), LINES, ids=[f"{category}-{name}" for category, name, _, _ in LINES]
)
def test_a_line_shows_its_part(
    category: str, name: str, experiment: str, line: str, smoke_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    words = _overrides(line.replace("RUN", str(smoke_run)).replace("FOLDER", str(tmp_path)))
    found = load_recipe(experiment, words).experiment
    if category == "features":
        assert name in [choice.name for choice in found.evaluate.features]
        return
    if category == "metrics":
        assert name in found.evaluate.wanted
        return
    shown = {registry.kind: choice for registry, choice in found.parts}
    assert shown[REGISTRIES[category].kind].name == name
    # With drawn images in the place of real ones; the run that guides knows their classes.
    classes = ["classes=true"] if name == "autoguidance" else []
    small = ["dataset={name: shapes, size: 16, count: 32}", *SMALL[found.backbone.name], *FEW, *classes]
    tiny = load_recipe(
        experiment, [word for word in words if not word.startswith(("dataset=", "sampling.steps="))] + small
    ).experiment
    shape = DataShape.of(data := build_data(tiny))
    model = build_model(tiny, shape, torch.device("cpu"))
    objective = build_objective(tiny, shape, model, pairs_of(tiny, shape, torch.device("cpu")))
    require_fit(tiny, model, objective)
    procedure = build_procedure(tiny.sampling, model, guides(model, shape, None))
    trainer = Trainer(tiny, model, objective, data.train, "fp32")
    for step in range(2):
        trainer.step(trainer.batch(step))
    sampler = ImageSampler(model, trainer.sampling_network(tiny.weights), procedure, shape.image_shape, "fp32")
    ((_, images),) = sampler.images(2, 0, 2, sampler.labels(2))
    assert images.shape == (2, 1, 16, 16)
