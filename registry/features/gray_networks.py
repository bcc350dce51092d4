"""What extractors share whose network sees gray images of 28 x 28, and whose weights ship beside their module."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

SIZE = 28


class GrayFeatures:
    """An `Extractor` by a network of gray images in [0, 1] [B, 1, 28, 28] -> (features [B, D], logits [B, K])."""

    resize = "RGB averaged to gray; sizes other than 28 x 28 by antialiased bilinear"

    def __init__(self, network: nn.Module, weights: Path) -> None:
        self.hash = hashlib.sha256(weights.read_bytes()).hexdigest()
        network.load_state_dict(load_file(weights))
        # The same function up to rounding, in two thirds of the time: normalisation within the convolutions, channels last.
        self.network = _fused(network.eval()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.network.to(images.device)
        gray = images.float().mean(dim=1, keepdim=True) / 255  # [B, 1, H, W]
        if gray.shape[2:] != (SIZE, SIZE):
            gray = F.interpolate(gray, (SIZE, SIZE), mode="bilinear", antialias=True)
        features, logits = self.network(gray.to(memory_format=torch.channels_last))
        return features, logits


def _fused(module: nn.Module) -> nn.Module:
    """The module, each normalisation within the convolution that stands before it in a sequence."""
    for name, child in module.named_children():
        setattr(module, name, _fused(child))
    if not isinstance(module, nn.Sequential):
        return module
    parts: list[nn.Module] = []
    for part in module:
        if isinstance(part, nn.BatchNorm2d):
            parts[-1] = fuse_conv_bn_eval(parts[-1], part)  # type: ignore[type-var]
        else:
            parts.append(part)
    return nn.Sequential(*parts).eval()
