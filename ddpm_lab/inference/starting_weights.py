"""The weights of another run that a run begins from, and what they have cost so far."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors.torch import load
from torch import nn

from ddpm_lab.config.load import load_recipe
from ddpm_lab.config.schema import Experiment, Start
from ddpm_lab.storage import shipped
from ddpm_lab.storage.files import sha256
from ddpm_lab.storage.measurement import RunResult, read_result
from ddpm_lab.storage.results_folder import newest_finished
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.storage.starting_weights import StartingWeights, cost_of
from registry.errors import BadInput, reason
from registry.files import WEIGHTS, read_file


def begin_from(start: Start, network: nn.Module, results: Path) -> StartingWeights:
    """Fill the network with the weights of a run or of an exported folder, as far as names and shapes are the same.

    The name of an experiment stands for its newest finished run in `results`, that of a model that ships for the model.

    Raises:
        BadInput: there is no such run, its weights cannot be read, or less than half of the network would be theirs.
    """
    folder = _folder(start.run, results)
    experiment = load_recipe(str(folder.experiment)).experiment
    name = _name(start, experiment)
    file = folder.weights(name)
    if not file.is_file():
        raise BadInput(f"train.start: '{start.run}' has no {name} weights; it has {', '.join(folder.known_weights) or 'none'}")
    try:
        content = read_file(file, WEIGHTS)
        theirs = load(content)
    except BadInput:
        raise
    except Exception as error:  # a damaged header can raise almost anything
        raise BadInput(f"train.start: {file}: these weights cannot be read ({reason(error)})") from None
    ours = network.state_dict()
    fitting = {key: value for key, value in theirs.items() if key in ours and ours[key].shape == value.shape}
    shared, all_ = (sum(value.numel() for value in tensors.values()) for tensors in (fitting, ours))
    if 2 * shared < all_:
        raise BadInput(
            f"train.start: the tensors of '{start.run}' ({experiment.backbone.name}) that have a place in this network make up"
            f" {shared / all_:.0%} of it; begin with a run of the same backbone and sizes"
        )
    network.load_state_dict(fitting, strict=False)
    digest = hashlib.sha256(content).hexdigest()
    images, seconds = _cost(folder)
    return StartingWeights(
        str(folder.path), name, digest, images, seconds,
        tuple(key for key in ours if key not in fitting), tuple(key for key in theirs if key not in fitting),
    )  # fmt: skip


def digest_of(start: Start) -> str | None:
    """The SHA-256 of the weights in a run's folder; None where the name of an experiment stands for its newest run.

    Raises:
        BadInput: the weights cannot be read.
    """
    try:
        folder = RunFolder.open(start.run)
    except BadInput:
        return None
    file = folder.weights(_name(start, load_recipe(str(folder.experiment)).experiment))
    try:
        return sha256(file)
    except OSError as error:
        raise BadInput(f"train.start: {file}: cannot be read ({error.strerror})") from None


def _name(start: Start, experiment: Experiment) -> str:
    return start.weights if start.weights != "auto" else experiment.weights


def _folder(name: str, results: Path) -> RunFolder:
    try:
        found, path = RunFolder.open(name), RunFolder(Path(name))
        ships = name in shipped.models() and not path.experiment.is_file()
        return (ships and newest_finished(results, name)) or found
    except BadInput as error:
        if "/" in name:
            raise BadInput(f"train.start: {error}") from None
        if folder := newest_finished(results, name):
            return folder
        raise BadInput(
            f"train.start: there is no run at '{name}', and no finished run of that experiment in {results}/"
            f"{shipped.hint(name)}; `ddpm-lab run {name}` makes one"
        ) from None


def _cost(folder: RunFolder) -> tuple[int | None, float | None]:
    """Images and seconds of training of a run and of what it started from itself."""
    try:
        if folder.finished:
            result = read_result(folder.result)
        else:
            (images, seconds), start = folder.series("train_seconds")[-1], folder.recorded_start()
            before = cost_of(start)
            result = RunResult((), images=images, training_seconds=seconds, images_before=before[0], seconds_before=before[1])
        return result.images_in_all, result.training_in_all
    except (OSError, BadInput, IndexError):
        return None, None
