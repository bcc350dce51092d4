"""An AutoencoderKL that changes nothing: DiTPipeline needs one, and the lab's transformers work on pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddpm_lab.export.component import Component

LARGE = 1024.0  # against images in [-1, 1], so that the normalisation sees a constant


def identity_autoencoder(channels: int, size: int) -> Component:
    """Encoder and decoder whose weights make them the identity, to about 1e-6.

    SiLU(x) - SiLU(-x) = x, so each channel passes the only activation as x and as -x. Two constant channels beside them, LARGE
    and -LARGE, keep the mean of the only normalisation at 0 and its deviation at a known number, which its scale undoes.
    """
    wide = 2 * channels + 2
    config = {
        "in_channels": channels, "out_channels": channels, "latent_channels": channels, "sample_size": size,
        "block_out_channels": [wide], "layers_per_block": 1, "norm_num_groups": 1, "mid_block_add_attention": False,
        "down_block_types": ["DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D"], "scaling_factor": 1.0,
        "force_upcast": False,
    }  # fmt: skip
    weights = {
        "quant_conv.weight": torch.eye(2 * channels)[:, :, None, None], "quant_conv.bias": torch.zeros(2 * channels),
        "post_quant_conv.weight": torch.eye(channels)[:, :, None, None], "post_quant_conv.bias": torch.zeros(channels),
    }  # fmt: skip
    for part, blocks, out in (
        ("encoder", ["down_blocks.0.resnets.0"], 2 * channels),
        ("decoder", ["up_blocks.0.resnets.0", "up_blocks.0.resnets.1"], channels),
    ):
        weights |= _conv(f"{part}.conv_in", _into_pairs(channels), _constants(channels))
        for block in ("mid_block.resnets.0", "mid_block.resnets.1", *blocks):
            weights |= _silent_block(f"{part}.{block}", wide)
        deviation = LARGE * math.sqrt(2 / wide)
        weights |= {
            f"{part}.conv_norm_out.weight": torch.full((wide,), deviation), f"{part}.conv_norm_out.bias": torch.zeros(wide),
        }  # fmt: skip
        # The encoder's second half is the log variance of a latent: as good as none.
        bias = torch.cat([torch.zeros(channels), torch.full((out - channels,), -30.0)])
        weights |= _conv(f"{part}.conv_out", _from_pairs(channels, out), bias)
    return Component("vae", "AutoencoderKL", config, weights)


def _into_pairs(channels: int) -> Tensor:
    matrix = torch.zeros(2 * channels + 2, channels)
    matrix[0 : 2 * channels : 2] = torch.eye(channels)
    matrix[1 : 2 * channels : 2] = -torch.eye(channels)
    return matrix


def _constants(channels: int) -> Tensor:
    return torch.tensor([0.0] * (2 * channels) + [LARGE, -LARGE])


def _from_pairs(channels: int, out: int) -> Tensor:
    matrix = torch.zeros(out, 2 * channels + 2)
    matrix[:channels, 0 : 2 * channels : 2] = torch.eye(channels)
    matrix[:channels, 1 : 2 * channels : 2] = -torch.eye(channels)
    return matrix


def _conv(place: str, matrix: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """A 3 x 3 convolution that looks at the middle pixel only."""
    weight = torch.zeros(*matrix.shape, 3, 3)
    weight[:, :, 1, 1] = matrix
    return {f"{place}.weight": weight, f"{place}.bias": bias}


def _silent_block(place: str, wide: int) -> dict[str, Tensor]:
    """A residual block whose branch is 0."""
    weights: dict[str, Tensor] = {}
    for number in ("1", "2"):
        weights |= {f"{place}.norm{number}.weight": torch.ones(wide), f"{place}.norm{number}.bias": torch.zeros(wide)}
        weights |= _conv(f"{place}.conv{number}", torch.zeros(wide, wide), torch.zeros(wide))
    return weights
