"""`export`: a trained network as a folder of its own, for the lab, for plain torch, and where it can be for diffusers."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path

import jinja2
from safetensors.torch import save_file

from ddpm_lab.config.command import command_of
from ddpm_lab.export.autoencoder import identity_autoencoder
from ddpm_lab.export.component import Component, Inexpressible
from ddpm_lab.export.dit import dit
from ddpm_lab.export.scheduler import scheduler
from ddpm_lab.export.unet import unet
from ddpm_lab.inference.sampling_overrides import changed
from ddpm_lab.inference.trained_run import Run
from ddpm_lab.storage.files import sha256, write_text
from ddpm_lab.storage.json_text import write_json
from ddpm_lab.storage.measurement import read_result
from ddpm_lab.storage.weights import save_weights
from registry.backbones import BACKBONES
from registry.errors import BadInput

# The oldest version that has all that the folder names; diffusers warns of newer ones than itself.
DIFFUSERS = "0.31.0"


def export(run: Run, weights: str | None, directory: Path, licence: str | None = None) -> list[str]:
    """Write the run's network to a new folder; the lines that say what is in it. Without `weights` those that it samples from.

    `licence` is that of the weights, for the card.

    Raises:
        BadInput: the folder is there already or cannot be written, or the run has no such weights.
    """
    if directory.exists():
        raise BadInput(f"{directory} is there already; name a new folder")
    exported = _Export(run, weights, licence)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".partial-{directory.name}-", dir=directory.parent))
        try:
            exported.write(aside)
            aside.chmod(0o755)
            os.replace(aside, directory)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise BadInput(f"{directory} cannot be written ({error.strerror or error}); name a place that can") from None
    return [f"export: {directory}", *exported.lines()]


class _Export:
    """A run with the weights that are exported, and what diffusers makes of its network."""

    def __init__(self, run: Run, weights: str | None, licence: str | None) -> None:
        self.licence, self.run, self.experiment, self.shape = licence, run, run.experiment, run.shape
        self.sampling = self.experiment.sampling
        if weights is not None:
            self.sampling = changed(run, self.sampling, weights=weights)
        self.weights, self.model = run.weights_of(self.sampling), run.model(self.sampling)
        self.obstacle = ""  # what stands in the way of having a pipeline, or its components
        try:
            self.pipeline, self.components = self._for_diffusers()
        except Inexpressible as obstacle:
            self.pipeline, self.components, self.obstacle = "", [], f"no folder for it: {obstacle}"

    def write(self, folder: Path) -> None:
        """All files of the folder."""
        save_weights(folder / f"{self.weights}.safetensors", self.model.network, {"backbone": self.experiment.backbone.name})
        # The same files as in the run's folder, so that the lab loads the one as the other.
        had = self.run.folder
        for file in (had.experiment, had.data, had.result, had.environment, had.start):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)
        if self.run.folder.plugins.is_dir():
            shutil.copytree(self.run.folder.plugins, folder / self.run.folder.plugins.name)
        config = {
            "backbone": self.experiment.backbone.flat(), "image_shape": self.shape.image_shape, "classes": self.model.classes,
            "channels_out": self.shape.image_shape[0] * (1 + self.model.variance.extra_channels),
            "schedule": self.experiment.schedule.flat(), "timesteps": self.experiment.timesteps,
            "target": self.experiment.target.flat(), "data": dataclasses.asdict(self.shape),
            "weights": f"{self.weights}.safetensors",
        }  # fmt: skip
        write_json(folder / "config.json", config)
        for component in self.components:
            _write_component(folder / component.folder, component)
        if self.pipeline:
            self._write_index(folder / "model_index.json")
        write_text(folder / "README.md", self._card(sha256(folder / f"{self.weights}.safetensors")) + "\n")

    def lines(self) -> list[str]:
        """What is in the folder."""
        classes = self.pipeline or ", ".join(component.class_name for component in self.components)
        return [
            f"weights: {self.weights}.safetensors, config.json; `ddpm_lab.load` takes the folder as it takes a run",
            f"diffusers: {self.obstacle or classes}",
        ]

    def _for_diffusers(self) -> tuple[str, list[Component]]:
        """The class of the pipeline, where there is one, and its components.

        Raises:
            Inexpressible: diffusers has no such network, path or target.
        """
        backbone, shape = self.experiment.backbone, self.shape.image_shape
        path, classes = self.model.diffusion.path, self.model.classes
        state, kind = self.model.network.state_dict(), BACKBONES.part(backbone.name).traits.diffusers
        if kind == "UNet2DModel":
            steps = scheduler(self.experiment, path, noisy=True)
            network = unet(state, backbone.options, shape, classes)
            if steps.class_name == "DDIMScheduler":
                network = _without_variance(network, shape[0])
            # No pipeline hands a UNet2DModel its classes.
            return "" if classes is not None else steps.class_name.replace("Scheduler", "Pipeline"), [network, steps]
        if kind == "DiTTransformer2DModel":
            steps = scheduler(self.experiment, path, noisy=False)
            network = dit(state, backbone.options, shape, classes)
            return "DiTPipeline", [network, identity_autoencoder(shape[0], shape[1]), steps]
        known = " and ".join(part.name for part in BACKBONES if part.traits.diffusers)
        raise Inexpressible(f"it has no network like '{backbone.name}', only {known}")

    def _write_index(self, file: Path) -> None:
        index: dict[str, object] = {"_class_name": self.pipeline, "_diffusers_version": DIFFUSERS}
        index |= {component.folder: ["diffusers", component.class_name] for component in self.components}
        if self.pipeline == "DiTPipeline":
            names = self.shape.class_names if self.experiment.classes and self.shape.class_names else ("image",)
            index["id2label"] = {str(number): name for number, name in enumerate(names)}
        write_json(file, index)

    def _card(self, digest: str) -> str:
        """README.md: what it is, its result, what made it, the licences, how to sample from it."""
        result = read_result(self.run.folder.result) if self.run.folder.finished else None
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("ddpm_lab.export"), trim_blocks=True, lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )  # fmt: skip
        return environment.get_template("model_card.md").render(
            vars(self), name=self.run.recipe.name, classes=self.model.classes, result=result, parameters=self.model.parameters,
            command=command_of(self.run.recipe), made_on=self.run.folder.recorded_environment(), digest=digest,
        )  # fmt: skip


def _without_variance(found: Component, channels: int) -> Component:
    """The network without the channels of a learned variance, which DDIM does not use."""
    weights = found.weights | {name: found.weights[name][:channels] for name in ("conv_out.weight", "conv_out.bias")}
    return Component(found.folder, found.class_name, found.config | {"out_channels": channels}, weights)


def _write_component(folder: Path, component: Component) -> None:
    folder.mkdir()
    config = {"_class_name": component.class_name, "_diffusers_version": DIFFUSERS, **component.config}
    write_json(folder / ("config.json" if component.weights else "scheduler_config.json"), config)
    if component.weights:
        # Blocks may share an embedding; each gets its own copy, as a file holds no two names for one tensor.
        tensors = {key: tensor.detach().cpu().float().contiguous().clone() for key, tensor in component.weights.items()}
        save_file(tensors, folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})
