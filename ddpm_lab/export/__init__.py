"""`export`: a trained network as a folder of its own, for the lab, for plain torch, and where it can be for diffusers."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jinja2
import torch
from safetensors.torch import save_file

from ddpm_lab.config.schema import Sampling
from ddpm_lab.diffusion.cost import parameter_count
from ddpm_lab.diffusion.model import Model
from ddpm_lab.export.autoencoder import identity_autoencoder
from ddpm_lab.export.component import Component, Inexpressible
from ddpm_lab.export.dit import dit
from ddpm_lab.export.scheduler import scheduler
from ddpm_lab.export.unet import unet
from ddpm_lab.inference.trained_run import Run
from ddpm_lab.runtime.redaction import discreet
from ddpm_lab.storage.files import write_text
from ddpm_lab.storage.json_text import write_json
from ddpm_lab.storage.measurement import read_result
from ddpm_lab.storage.weights import save_weights
from registry.backbones import BACKBONES
from registry.errors import BadInput

# The oldest version that has all that the folder names; diffusers warns of newer ones than itself.
DIFFUSERS = "0.31.0"


def export(run: Run, sampling: Sampling, directory: Path) -> list[str]:
    """Write the run's network to a new folder; the lines that say what is in it.

    Raises:
        BadInput: the folder is there already or cannot be written, or the run has no such weights.
    """
    if directory.exists():
        raise BadInput(f"{directory} is there already; name a new folder")
    model, weights = run.model(sampling), run.weights_of(sampling)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".partial-{directory.name}-", dir=directory.parent))
        try:
            lines = _write(aside, run, sampling, model, weights)
            aside.chmod(0o755)
            os.replace(aside, directory)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise BadInput(f"{directory} cannot be written ({error.strerror or error}); name a place that can") from None
    return [f"export: {directory}", *lines]


def _write(folder: Path, run: Run, sampling: Sampling, model: Model, weights: str) -> list[str]:
    experiment = run.experiment
    save_weights(folder / f"{weights}.safetensors", model.network, {"backbone": experiment.backbone.name})
    # The same files as in the run's folder, so that the lab loads the one as the other.
    for file in (run.folder.experiment, run.folder.data):
        shutil.copyfile(file, folder / file.name)
    if run.folder.plugins.is_dir():
        shutil.copytree(run.folder.plugins, folder / run.folder.plugins.name)
    config = {
        "backbone": experiment.backbone.flat(), "image_shape": run.shape.image_shape, "classes": model.classes,
        "channels_out": run.shape.image_shape[0] * (1 + model.variance.extra_channels), "schedule": experiment.schedule.flat(),
        "timesteps": experiment.timesteps, "target": experiment.target.flat(), "data": dataclasses.asdict(run.shape),
        "weights": f"{weights}.safetensors",
    }  # fmt: skip
    write_json(folder / "config.json", config)
    pipeline, components, obstacle = _for_diffusers(run, sampling, model)
    for component in components:
        _write_component(folder / component.folder, component)
    if pipeline:
        write_json(folder / "model_index.json", _index(pipeline, components, run))
    write_text(folder / "README.md", _card(run, sampling, model, weights, pipeline, components, obstacle))
    found = [f"weights: {weights}.safetensors, config.json; `ddpm_lab.load` takes the folder as it takes a run"]
    if obstacle:
        return [*found, f"diffusers: {obstacle}"]
    return [*found, f"diffusers: {pipeline or ', '.join(component.class_name for component in components)}"]


def _for_diffusers(run: Run, sampling: Sampling, model: Model) -> tuple[str, list[Component], str]:
    """The pipeline's class, its components, and what stands in the way of having them."""
    experiment = run.experiment.model_copy(update={"sampling": sampling})
    state, options, shape = model.network.state_dict(), experiment.backbone.options, run.shape.image_shape
    try:
        kind = BACKBONES.part(experiment.backbone.name).traits.diffusers
        if kind == "UNet2DModel":
            steps = scheduler(experiment, model.diffusion.path, noisy=True)
            found = unet(state, options, shape, model.classes)
            if steps.class_name == "DDIMScheduler":
                found = _without_variance(found, shape[0])
            if model.classes is not None:
                return "", [found, steps], ""  # no pipeline hands a UNet2DModel its classes
            return steps.class_name.replace("Scheduler", "Pipeline"), [found, steps], ""
        if kind == "DiTTransformer2DModel":
            steps = scheduler(experiment, model.diffusion.path, noisy=False)
            found = dit(state, options, shape, model.classes)
            return "DiTPipeline", [found, identity_autoencoder(shape[0], shape[1]), steps], ""
    except Inexpressible as obstacle:
        return "", [], f"no folder for it: {obstacle}"
    known = " and ".join(part.name for part in BACKBONES if part.traits.diffusers)
    return "", [], f"no folder for it: it has no network like '{experiment.backbone.name}', only {known}"


def _without_variance(found: Component, channels: int) -> Component:
    """The network without the channels of a learned variance, which DDIM does not use."""
    weights = found.weights | {name: found.weights[name][:channels] for name in ("conv_out.weight", "conv_out.bias")}
    return Component(found.folder, found.class_name, found.config | {"out_channels": channels}, weights)


def _write_component(folder: Path, component: Component) -> None:
    folder.mkdir()
    config = {"_class_name": component.class_name, "_diffusers_version": DIFFUSERS, **component.config}
    name = "config.json" if component.weights else "scheduler_config.json"
    write_json(folder / name, config)
    if component.weights:
        tensors = {key: tensor.detach().to("cpu", torch.float32).contiguous() for key, tensor in component.weights.items()}
        # Blocks may share an embedding; each gets its own copy, as a file holds no two names for one tensor.
        save_file(
            {key: tensor.clone() for key, tensor in tensors.items()},
            folder / "diffusion_pytorch_model.safetensors",
            {"format": "pt"},
        )


def _index(pipeline: str, components: list[Component], run: Run) -> dict[str, Any]:
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": DIFFUSERS}
    index |= {component.folder: ["diffusers", component.class_name] for component in components}
    if pipeline == "DiTPipeline":
        names = run.shape.class_names if run.experiment.classes and run.shape.class_names else ("image",)
        index["id2label"] = {str(number): name for number, name in enumerate(names)}
    return index


def _card(
    run: Run, sampling: Sampling, model: Model, weights: str, pipeline: str, components: list[Component], obstacle: str
) -> str:
    """README.md: what it is, its result, how to sample from it, the license of the data."""
    result = read_result(run.folder.result) if run.folder.finished else None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ddpm_lab.export"), trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("model_card.md").render(
        name=run.recipe.name, experiment=run.experiment, sampling=sampling, shape=run.shape, classes=model.classes,
        result=result, parameters=parameter_count(model), weights=weights,
        pipeline=pipeline, components=components, obstacle=obstacle,
    )  # fmt: skip
    return discreet(page) + "\n"
