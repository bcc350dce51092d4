"""What data sets and extractors of features promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ddpm_lab.testing.promises import promised, require
from registry.datasets import ImageSet
from registry.features import MadeFor, made_for


@promised("datasets", sourced=False)
def datasets(make: Callable[[], ImageSet]) -> None:
    data = make()
    for split in (data.train, data.test):
        first = split.rows(torch.arange(min(len(split), 4)))
        require(first.dtype == torch.uint8 and first.ndim == 4, "images are uint8 [N, C, H, W]")
        require(tuple(first.shape[1:]) == data.image_shape, "images have the shape that the data set declares")
        if data.class_names is not None:
            labels = split.labels
            require(labels is not None and int(labels.max()) < len(data.class_names), "each label has a name")
    require(make().train.hash == data.train.hash, "the data are the same each time")


@promised("features", sourced=False)
def features(make: Callable[[], Any]) -> None:
    extractor = make()
    images = torch.randint(0, 256, (3, 3, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    features, logits = extractor(images)
    require(features.shape == (3, extractor.dimension), "features are [B, D], D being the extractor's `dimension`")
    k = None if logits is None else logits.shape[1]
    require(k == extractor.classes, "logits are [B, K], K being the extractor's `classes`, or both are None")
    names = extractor.class_names
    require(names is None or len(names) == k, "`class_names` has a name for each logit, or is None")
    early = made_for(getattr(make, "func", make))
    require(
        isinstance(early, MadeFor) and early == made_for(extractor), "`made_for` is a MadeFor, and an attribute of the class"
    )
    require(bool(extractor.hash and extractor.resize), "an extractor carries the hash of its weights and its resize rule")
