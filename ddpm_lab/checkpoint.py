"""What a run leaves on disk to be continued from (one checkpoint) and to be sampled from (weights)."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ddpm_lab.files import write_whole
from registry.errors import BadInput

State = dict[str, Any]


def save_checkpoint(file: Path, state: State) -> None:
    """All that training needs to go on: tensors, numbers and containers of them."""
    write_whole(file, lambda path: torch.save(state, path))


def load_checkpoint(file: Path) -> State:
    """A checkpoint, read without executing anything.

    Raises:
        BadInput: it is missing, damaged, or holds more than tensors and numbers.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
    except FileNotFoundError:
        raise BadInput(f"{file}: no checkpoint to resume from") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise BadInput(f"{file}: not a readable checkpoint ({str(error).splitlines()[0]})") from None


def save_weights(file: Path, network: nn.Module, about: dict[str, str]) -> None:
    """The network's weights as safetensors, with a few words about them."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_whole(file, lambda path: save_file(tensors, path, metadata=about))


def load_weights(file: Path, network: nn.Module) -> None:
    """Fill the network with the weights in a safetensors file.

    Raises:
        BadInput: the file is missing, damaged, or of another network.
    """
    if not file.is_file():
        raise BadInput(f"{file}: the run has no such weights; has it been trained?")
    try:
        network.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise BadInput(f"{file}: these weights do not fit ({str(error).splitlines()[0]})") from None
