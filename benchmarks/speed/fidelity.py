"""torch-fidelity's own evaluation with the lab's extractor, to measure the lab's against."""

from __future__ import annotations

import contextlib
import io

import torch
import torch_fidelity
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor

from registry.features.fashion_cnn import FashionCNNFeatures

NAME = "fashion-cnn"


class _Features(FeatureExtractorBase):
    def __init__(self, name: str, features_list: list[str], **_: object) -> None:
        super().__init__(name, features_list)
        self.extractor = FashionCNNFeatures()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("128",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "128"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.extractor(images)[0],)


class _Images(Dataset[Tensor]):
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def fidelity_distance(images: Tensor, reference: Tensor, cache: str, batch: int) -> float:
    """FID of uint8 images, the reference's statistics kept in the folder `cache`."""
    if NAME not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(NAME, _Features)
    with contextlib.redirect_stderr(io.StringIO()), torch.inference_mode():
        found = torch_fidelity.calculate_metrics(
            input1=_Images(images), input2=_Images(reference), feature_extractor=NAME, fid=True, cuda=False, batch_size=batch,
            cache_root=cache, cache=True, input2_cache_name="reference", verbose=False, save_cpu_ram=True,
        )  # fmt: skip
    return float(found["frechet_inception_distance"])
