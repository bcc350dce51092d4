"""Weights as safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save
from torch import nn

from ddpm_lab.storage.files import write_whole
from registry.errors import BadInput, reason
from registry.files import WEIGHTS, required


def save_weights(file: Path, network: nn.Module, about: Mapping[str, str | float]) -> None:
    """The network's weights as safetensors, with a few words about them as JSON."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    # One entry, because safetensors shuffles several: the same weights are to be the same bytes.
    write_whole(file, lambda path: path.write_bytes(save(tensors, metadata={"ddpm_lab": json.dumps(about)})))


def load_weights(file: Path, network: nn.Module) -> None:
    """Fill the network with the weights in a safetensors file.

    Raises:
        BadInput: the file is missing, damaged, or of another network.
    """
    try:
        network.load_state_dict(load_file(required(file, WEIGHTS)))
    except FileNotFoundError:
        raise BadInput(f"{file}: the run has no such weights; has it been trained?") from None
    except BadInput:
        raise
    except Exception as error:  # a damaged header can raise almost anything
        raise BadInput(f"{file}: these weights do not fit ({reason(error)})") from None
