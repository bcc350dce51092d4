"""fashion_cnn: the small classifier for 28 x 28 images of clothes; its weights ship with the lab."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from registry.datasets.fashion_mnist import CLASS_NAMES
from registry.features import FEATURES, MadeFor
from registry.features.gray_networks import SIZE, GrayFeatures

WEIGHTS = Path(__file__).with_name("fashion_cnn.safetensors")


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
class FashionCNNFeatures(GrayFeatures):
    """Features of a small Fashion-MNIST classifier that ships with the lab: works offline, D = 128."""

    dimension = 128
    class_names = CLASS_NAMES
    classes = len(CLASS_NAMES)
    made_for = MadeFor((SIZE, SIZE), 1, "fashion_mnist")

    def __init__(self) -> None:
        super().__init__(FashionCNN(), WEIGHTS)
