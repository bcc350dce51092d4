"""Statistics of a reference on the disk: under all that they depend on, and checked when they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ddpm_lab.storage.files import write_whole
from registry.datasets.cache import cache_folder
from registry.files import WEIGHTS, required
from registry.metrics.gathered import Statistics
from registry.metrics.moments import Moments

NAMES = ("total", "outer", "count", "some")


def cached(known: Mapping[str, str]) -> Statistics | None:
    """The statistics that were kept under just these words; None where there are none, or the file is damaged."""
    try:
        with safe_open(required(_file(known), WEIGHTS), "pt") as stored:
            tensors = [stored.get_tensor(name) for name in NAMES]
            about = stored.metadata()
    except Exception:  # absent, cut off, or something else altogether
        return None
    if about != {**known, "content": _content(tensors)} or int(tensors[2].sum()) != int(known["images"]):
        return None
    return Statistics(Moments(*tensors[:3]), tensors[3])


def keep(statistics: Statistics, known: Mapping[str, str]) -> None:
    """Write them for the next time.

    Raises:
        OSError: the cache cannot be written.
    """
    tensors = [*vars(statistics.groups).values(), statistics.some]
    about = {**known, "content": _content(tensors)}
    whole = save(dict(zip(NAMES, tensors, strict=True)), metadata=about)
    file = _file(known)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, lambda path: path.write_bytes(whole))


def _file(known: Mapping[str, str]) -> Path:
    key = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / "reference" / f"{known['extractor']}-{key}.safetensors"


def _content(tensors: list[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()
