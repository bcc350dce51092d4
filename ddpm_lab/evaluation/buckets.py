"""The buckets of log SNR in which the held-out loss is kept, and its mean over those that several paths cover."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from ddpm_lab.evaluation.measurement import Record
from registry.errors import BadInput

EDGES = tuple(float(edge) for edge in range(-8, 9, 2))  # of the log SNR: beyond them a network has nothing left to learn
BUCKETS = tuple(f"{low:g} to {high:g}" for low, high in pairwise(EDGES))


def covered(low: float, high: float) -> list[str]:
    """The buckets that lie wholly on a path whose log SNR goes from `low` to `high`."""
    ends = zip(BUCKETS, pairwise(EDGES), strict=True)
    return [bucket for bucket, (first, last) in ends if low <= first + 1e-9 and last - 1e-9 <= high]


def averaged_over(record: Record, buckets: Sequence[str]) -> Record:
    """The record with its value and 95 % interval over these buckets, one or more.

    The variance of the mean is the mean of the covariances between the buckets.
    """
    chosen = [BUCKETS.index(bucket) for bucket in buckets]
    value = math.fsum(record["detail"][bucket] for bucket in buckets) / len(buckets)
    if record["covariance"] is None:  # of one image
        return record | {"value": value, "interval": None, "buckets": list(buckets)}
    variance = math.fsum(record["covariance"][i][j] for i in chosen for j in chosen) / len(buckets) ** 2
    half = 1.96 * math.sqrt(max(variance, 0.0))
    return record | {"value": value, "interval": [value - half, value + half], "buckets": list(buckets)}


def over_shared(records: Sequence[Record], names: Sequence[str]) -> list[Record]:
    """Records of one metric, those that are kept in buckets averaged over the buckets that all of their paths wholly cover.

    Raises:
        BadInput: there is no such bucket, or a record does not say which ones its path covers; it goes by its name.
    """
    if records[0]["metric"] != "held_out_loss":
        return list(records)
    for name, record in zip(names, records, strict=True):
        if "covered" not in record:
            raise BadInput(
                f"{name}: its held_out_loss does not say which buckets of log SNR its path covers, so it cannot be compared;"
                f" `ddpm-lab evaluate {name}` measures it again"
            )
    shared = [bucket for bucket in BUCKETS if all(bucket in record["covered"] for record in records)]
    if not shared:
        told = "; ".join(f"{name}: {', '.join(r['covered']) or 'none'}" for name, r in zip(names, records, strict=True))
        raise BadInput(f"no bucket of log SNR is covered by all of these paths ({told}); compare them by FID")
    return [averaged_over(record, shared) for record in records]
