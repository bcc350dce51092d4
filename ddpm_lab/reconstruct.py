"""`ema`: averages of other lengths out of a run's snapshots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import nn

from ddpm_lab.build import build_model
from ddpm_lab.checkpoint import save_weights
from ddpm_lab.files import numbered
from ddpm_lab.loaded import Run
from ddpm_lab.post_hoc import Profile, combination
from registry.averages import AVERAGES
from registry.errors import BadInput, reason
from registry.files import WEIGHTS, required
from registry.shelf import OptionError

POOR = 0.05  # relative distance of a profile from the wanted one


class Stored(NamedTuple):
    """A power-function average in a run's folder."""

    file: Path
    images: int
    profile: Profile


def reconstruct(run: Run, stds: Sequence[float]) -> list[str]:
    """Write `ema_std0.080.safetensors` for each relative standard deviation; a line about each.

    Raises:
        BadInput: the run keeps no snapshots of power-function averages, or one is damaged, or a standard deviation is none.
    """
    for std in stds:
        try:
            AVERAGES.check("power", {"std": std})
        except OptionError as error:
            raise BadInput(f"--std: {error}") from None
    stored = _stored(run)
    last = max(stored, key=lambda one: one.images)
    network = build_model(run.experiment, run.shape, torch.device("cpu")).network
    lines = []
    for std in stds:
        factors, distance = combination([one.profile for one in stored], Profile(last.profile.time, std))
        _fill(network, stored, factors, last)
        name = f"ema_std{std:.3f}"
        save_weights(run.folder.weights(name), network, {"images": last.images, "std": std, "snapshots": len(stored)})
        lines.append(
            f"{run.folder.weights(name)}: after {last.images:,} images, from {len(stored)} snapshots, its profile matched to"
            f" {distance:.2%}"
        )
        if distance > POOR:
            lines.append(
                f"warning: {std:g} is far from what the snapshots can make; keep more of them (train.snapshots_every), or"
                " averages nearer to it"
            )
    return lines


def _stored(run: Run) -> list[Stored]:
    found = []
    for _, file in numbered(run.folder.snapshots, r"(-[\w.-]+)?\.safetensors"):
        try:
            with safe_open(required(file, WEIGHTS), "pt") as stream:
                about = json.loads(stream.metadata()["ddpm_lab"])
            if "std" in about:
                found.append(Stored(file, about["images"], Profile(about["images"] / about["batch"], about["std"])))
        except Exception as error:  # damage in a header comes to light as almost anything
            raise BadInput(f"{file}: not a snapshot of the lab's ({reason(error)}); remove it, or run anew") from None
    if not found:
        raise BadInput(
            f"{run.folder.snapshots}: no snapshots of power-function averages; train with train.snapshots_every and"
            " train.ema='[{name: power, std: 0.05}, {name: power, std: 0.1}]'"
        )
    return found


@torch.no_grad()
def _fill(network: nn.Module, stored: Sequence[Stored], factors: Sequence[float], last: Stored) -> None:
    """The parameters from all snapshots, added up in float64; the buffers, which are no averages, from the last one."""
    sums = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in network.named_parameters()}
    try:
        for one, factor in zip(stored, factors, strict=True):
            with safe_open(required(one.file, WEIGHTS), "pt") as stream:
                for name, value in sums.items():
                    value += factor * stream.get_tensor(name)
        with safe_open(last.file, "pt") as stream:
            state = {name: stream.get_tensor(name) for name in network.state_dict()}
        network.load_state_dict(state | {name: value.float() for name, value in sums.items()})
    except Exception as error:
        raise BadInput(f"{last.file.parent}: a snapshot does not fit the run's network ({reason(error)})") from None
