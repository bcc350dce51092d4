"""Averages of other lengths after the run, from snapshots of power-function averages (Karras et al. 2024, EDM2, section 3)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import safe_open
from torch import nn

from ddpm_lab.diffusion.build import build_model
from ddpm_lab.inference.trained_run import Run
from ddpm_lab.storage.files import numbered
from ddpm_lab.storage.weights import save_weights
from registry.averages.profile import RelativeStd, gamma_of
from registry.errors import BadInput, reason
from registry.files import WEIGHTS, required
from registry.problems import first_problem

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
            TypeAdapter(RelativeStd).validate_python(std)
        except ValidationError as error:
            raise BadInput(f"--std: {first_problem(error)}") from None
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
        except Exception as error:  # a damaged header can raise almost anything
            raise BadInput(f"{file}: not a snapshot of the lab's ({reason(error)}); remove it, or start a new run") from None
    if not found:
        raise BadInput(
            f"{run.folder.snapshots}: no snapshots of power-function averages; train with train.snapshots_every and"
            " train.ema='[{name: power, std: 0.05}, {name: power, std: 0.1}]'"
        )
    return found


@torch.no_grad()
def _fill(network: nn.Module, stored: Sequence[Stored], factors: Sequence[float], last: Stored) -> None:
    """The parameters from all snapshots, added up in float64; the buffers, which are not averaged, from the last one."""
    sums = {name: torch.zeros(value.shape, dtype=torch.float64) for name, value in network.named_parameters()}
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


class Profile(NamedTuple):
    """The weight that a power-function average gave to each moment: (gamma + 1) tau^gamma / t^(gamma + 1) on [0, t]."""

    time: float
    std: float


def overlap(one: Profile, other: Profile) -> float:
    """The integral of the product of two profiles.

    Both are powers of tau, and the product ends where the shorter one does:
    (g + 1)(h + 1) / (g + h + 1) * m^(g + h + 1) / (t^(g + 1) u^(h + 1)), with m the smaller of t and u.
    """
    g, h = gamma_of(one.std), gamma_of(other.std)
    # In logarithms, because m^(g + h + 1) alone leaves the range of numbers.
    exponent = (g + h + 1) * math.log(min(one.time, other.time)) - (g + 1) * math.log(one.time) - (h + 1) * math.log(other.time)
    return (g + 1) * (h + 1) / (g + h + 1) * math.exp(exponent)


def combination(stored: Sequence[Profile], wanted: Profile) -> tuple[list[float], float]:
    """The factors of the stored averages whose sum is nearest to the wanted one, and how far it is from it.

    They add up to 1, so that what they make is an average even where it is far off; a Lagrange multiplier sees to it. The
    distance is relative: the norm of the difference of the profiles over the norm of the wanted one.
    """
    gram = np.array([[overlap(a, b) for b in stored] for a in stored])
    right = np.array([overlap(a, wanted) for a in stored])
    # Scaled to ones on the diagonal, because an early profile is narrower and so larger than a late one.
    scale = np.sqrt(np.diag(gram))
    ones = (1 / scale) / np.linalg.norm(1 / scale)
    system = np.block([[gram / np.outer(scale, scale), ones[:, None]], [ones[None, :], np.zeros((1, 1))]])
    goal = np.append(right / scale, 1 / np.linalg.norm(1 / scale))
    factors = np.linalg.lstsq(system, goal, rcond=1e-13)[0][:-1] / scale
    whole = overlap(wanted, wanted)
    square = 1 - 2 * factors @ right / whole + factors @ gram @ factors / whole
    return factors.tolist(), math.sqrt(max(float(square), 0.0))
