"""What stands in torchmetrics for a feature network."""

from torch import Tensor, nn


class HandedFeatures(nn.Module):
    """A feature network for torchmetrics that is handed features instead of images."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.num_features = dimension

    def forward(self, features: Tensor) -> Tensor:
        return features
