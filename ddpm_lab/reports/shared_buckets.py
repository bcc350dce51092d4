"""The mean of a measurement over those buckets of log SNR that several paths cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ddpm_lab.storage.measurement import Measurement
from registry.errors import BadInput
from registry.metrics.buckets import BUCKETS, mean_over


def averaged_over(record: Measurement, buckets: Sequence[str]) -> Measurement:
    """The record with its value and 95 % interval over these buckets, one or more."""
    detail = {bucket: value for bucket, value in (record.detail or {}).items() if value is not None}
    covariance = None if record.covariance is None else [[one or 0.0 for one in row] for row in record.covariance]
    value, interval = mean_over(buckets, detail, covariance)
    return replace(record, value=value, interval=interval, buckets=tuple(buckets))


def over_shared(records: Sequence[Measurement], names: Sequence[str]) -> list[Measurement]:
    """Records of one metric, those that are kept in buckets averaged over the buckets that all of their paths wholly cover.

    Raises:
        BadInput: there is no such bucket, or a record does not say which ones its path covers; it goes by its name.
    """
    if not set(BUCKETS) <= set(records[0].detail or ()):
        return list(records)
    for name, record in zip(names, records, strict=True):
        if record.covered is None:
            raise BadInput(
                f"{name}: its {record.metric} does not say which buckets of log SNR its path covers, so it cannot be compared;"
                f" `ddpm-lab evaluate {name}` measures it again"
            )
    shared = [bucket for bucket in BUCKETS if all(bucket in (record.covered or ()) for record in records)]
    if not shared:
        told = "; ".join(f"{name}: {', '.join(r.covered or ()) or 'none'}" for name, r in zip(names, records, strict=True))
        raise BadInput(f"no bucket of log SNR is covered by all of these paths ({told}); compare them by FID")
    return [averaged_over(record, shared) for record in records]
