"""fashion_cnn: the small classifier for 28 x 28 images of clothes; its weights ship with the lab."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from registry.datasets.fashion_mnist import CLASS_NAMES
from registry.features import FEATURES, MadeFor

WEIGHTS = Path(__file__).with_name("fashion_cnn.safetensors")
SIZE = 28


class FashionCNN(nn.Module):
    """28 x 28 gray in [0, 1] -> (features [B, 128], logits [B, 10]). 279,000 parameters; trained by
    `benchmarks/assets/train_fashion_cnn.py`."""

    def __init__(self) -> None:
        super().__init__()

        def layer(width_in: int, width: int, stride: int) -> nn.Sequential:
            conv = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())

        self.layers = nn.Sequential(layer(1, 32, 1), layer(32, 64, 2), layer(64, 64, 1), layer(64, 128, 2), layer(128, 128, 1))
        self.dropout = nn.Dropout(0.1)
        self.classify = nn.Linear(128, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.layers(images).mean(dim=(2, 3))  # [B, 128]
        return features, self.classify(self.dropout(features))


@FEATURES.register("fashion_cnn")
class FashionCNNFeatures:
    """Features of a small Fashion-MNIST classifier that ships with the lab: works offline, D = 128."""

    dimension = 128
    class_names = CLASS_NAMES
    classes = len(CLASS_NAMES)
    made_for = MadeFor((SIZE, SIZE), 1, "fashion_mnist")
    resize = "RGB averaged to gray; sizes other than 28 x 28 by antialiased bilinear"

    def __init__(self) -> None:
        self.hash = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
        self.network = FashionCNN().eval()
        self.network.load_state_dict(load_file(WEIGHTS))
        # The same function up to rounding, in two thirds of the time: normalisation within the convolutions, channels last.
        fused = [nn.Sequential(fuse_conv_bn_eval(conv, norm), relu) for conv, norm, relu in self.network.layers]  # type: ignore
        self.network.layers = nn.Sequential(*fused).eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.network.to(images.device)
        gray = images.float().mean(dim=1, keepdim=True) / 255  # [B, 1, H, W]
        if gray.shape[2:] != (SIZE, SIZE):
            gray = F.interpolate(gray, (SIZE, SIZE), mode="bilinear", antialias=True)
        features, logits = self.network(gray.to(memory_format=torch.channels_last))
        return features, logits
