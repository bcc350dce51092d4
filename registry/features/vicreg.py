"""The network of `fashion_vicreg` and `mnist_vicreg`: VICReg, which needs no labels (Bardes et al. 2022, arXiv:2105.04906)."""

from __future__ import annotations

from torch import Tensor, nn

WIDTH = 128


class Residual(nn.Module):
    """x + two 3 x 3 convolutions of x, `inner` channels between them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_layer(width, inner, 3, 1), *_layer(inner, width, 3, 1)[:2])
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(x + self.body(x))
        return out


def _layer(width_in: int, width: int, side: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(width_in, width, side, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())


class VICRegNetwork(nn.Module):
    """28 x 28 gray in [0, 1] -> (features [B, 128], logits [B, 10]): a residual network of 335,000 parameters.

    The logits are a linear probe's, fitted once the features were learnt; they teach the features nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _layer(1, 32, 4, 2), Residual(32, 32),  # 14 x 14
            _layer(32, 64, 3, 2), Residual(64, 64),  # 7 x 7
            _layer(64, WIDTH, 3, 2), Residual(WIDTH, 64),  # 4 x 4
        )  # fmt: skip
        self.classify = nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.layers(images).mean(dim=(2, 3))  # [B, 128]
        return features, self.classify(features)
