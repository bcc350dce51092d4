"""The denoising loss on images that were not learnt from: comparable across losses, targets and networks."""

from __future__ import annotations

from registry.metrics import METRICS, Buckets, MetricTraits, OfNetwork, Value
from registry.metrics.buckets import BUCKETS, EDGES, covered, mean_over

WORDS = f"held-out loss (squared error of eps in buckets of log SNR with edges {', '.join(f'{edge:g}' for edge in EDGES)})"


@METRICS.register("held_out_loss", MetricTraits(needs=frozenset({"network"}), digits=5, protocol=WORDS, floor=False, place=90))
def held_out_loss(seen: OfNetwork) -> Value:
    """Mean squared error of eps on held-out images, over the buckets of log SNR that the path wholly covers (no source).

    `detail` has every bucket; from the covariance of the buckets' means follows the interval over images, for other choices
    of buckets too.
    """
    errors, (low, high) = seen.errors, seen.ends
    detail = dict(zip(BUCKETS, errors.mean(0).tolist(), strict=True))
    covariance = tuple(map(tuple, (errors.T.cov() / len(errors)).tolist())) if len(errors) > 1 else None
    buckets = Buckets(covered(low, high), covariance)
    if not buckets.covered:
        why = f"the path, of log SNR {low:.3g} to {high:.3g}, wholly covers none of the buckets"
        return Value(None, None, detail, buckets, why)
    return Value(*mean_over(buckets.covered, detail, covariance), detail, buckets)
