"""The columns of a suite's tables: a metric, or of one that several extractors have, its value in each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ddpm_lab.storage.measurement import Measurement

Columns = Mapping[tuple[str, str], str]  # metric and extractor -> `FID`, or `FID (fashion_cnn)`


def columns_of(metrics: Sequence[str], records: Iterable[Measurement]) -> Columns:
    """Those of these metrics first, in their order; extractors in the order of the records."""
    found: dict[str, dict[str, None]] = {metric: {} for metric in metrics}
    for one in records:
        found.setdefault(one.metric, {})[one.extractor] = None
    return {
        (metric, extractor): metric if len(extractors) == 1 else f"{metric} ({extractor})"
        for metric, extractors in found.items()
        for extractor in extractors
    }


def in_columns(records: Iterable[Measurement], columns: Columns) -> dict[str, Measurement]:
    """Each record by its column."""
    return {columns[one.metric, one.extractor]: one for one in records}
