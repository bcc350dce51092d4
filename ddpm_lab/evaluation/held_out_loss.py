"""The denoising loss on images that were not learnt from: comparable across losses, targets and networks."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_lab.diffusion.model import Model
from ddpm_lab.diffusion.process import per_image, to_unit
from ddpm_lab.evaluation.buckets import BUCKETS, EDGES, averaged_over, covered
from ddpm_lab.evaluation.measurement import Protocol, Record, unavailable
from ddpm_lab.runtime.device import Precision, autocast
from ddpm_lab.runtime.seeding import protocol_generator
from registry.datasets import ImageSet

BATCH = 250
JUDGED = 2000  # held-out images, at most


def held_out_record(
    model: Model, network: nn.Module, data: ImageSet, n: int, precision: Precision, generation: dict[str, Any]
) -> Record:
    """The loss on held-out images, n at most, as a record: its mean over the buckets that the path wholly covers.

    `detail` has every bucket, `covered` those that the value is the mean of, and `covariance` that of the buckets' means, from
    which the interval over images follows, for other choices of buckets too (`over_shared`).
    """
    chosen = torch.randperm(len(data.test), generator=protocol_generator("held out"))[: min(n, JUDGED)]
    labels = None if data.test.labels is None else data.test.labels[chosen]
    losses = held_out_loss(model, network, data.test.rows(chosen), labels, precision)
    protocol = Protocol(
        f"held-out loss (squared error of eps in buckets of log SNR with edges {', '.join(f'{edge:g}' for edge in EDGES)})",
        "network", "none", "none", "none", f"{data.name}/test, {len(data.test)} images", data.test.hash, len(losses),
    )  # fmt: skip
    path = model.diffusion.path
    high, low = path.log_snr(torch.tensor([0.0, path.steps - 1.0], device=path.angle.device)).tolist()
    on_path = covered(low, high)
    record: Record = {
        "metric": "held_out_loss", "extractor": "network", "n": len(losses),
        "floor": None, "floor_interval": None, "floor_n": 0,
        "detail": dict(zip(BUCKETS, losses.mean(0).tolist(), strict=True)), "covered": on_path,
        "covariance": (losses.T.cov() / len(losses)).tolist() if len(losses) > 1 else None,
        "fingerprint": protocol.fingerprint, "protocol": asdict(protocol),
        "generation": {key: generation[key] for key in ("weights", "precision")},
    }  # fmt: skip
    if not on_path:
        why = f"the path, of log SNR {low:.3g} to {high:.3g}, wholly covers none of the buckets"
        return record | unavailable("held_out_loss", "network", why)
    return averaged_over(record, on_path)


@torch.inference_mode()
def held_out_loss(model: Model, network: nn.Module, images: Tensor, labels: Tensor | None, precision: Precision) -> Tensor:
    """The squared error of eps, over uint8 images [N, C, H, W], in each bucket of the log SNR between EDGES: [N, buckets].

    Image i meets the same noise and the same place in a bucket whatever the network, the path or the loss it was trained
    with. Where a bucket lies beyond the path's ends it is evaluated at the end: `covered` names those that do not.
    """
    path, device = model.diffusion.path, next(network.parameters()).device
    found = torch.zeros(len(images), len(EDGES) - 1, dtype=torch.float64)
    for start in range(0, len(images), BATCH):
        x0 = to_unit(images[start : start + BATCH].to(device))
        y = None if labels is None or model.classes is None else labels[start : start + BATCH].to(device)
        rng = protocol_generator("held out", start)
        eps = torch.randn(x0.shape, generator=rng).to(device)
        place = torch.rand(len(x0), generator=rng, dtype=torch.float64).to(device)
        for bucket in range(len(EDGES) - 1):
            log_snr = EDGES[bucket] + place * (EDGES[bucket + 1] - EDGES[bucket])
            level = path.level(log_snr).clamp(0, path.steps - 1)
            alpha, sigma = (per_image(value).to(x0.dtype) for value in path.at(level))
            with autocast(precision, device):
                denoised = model.diffusion.denoise(network, alpha * x0 + sigma * eps, level, y)
            error = (denoised.eps - eps).square().flatten(1).mean(dim=1)
            found[start : start + len(x0), bucket] = error.double().cpu()
    return found
