"""What metrics promise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ddpm_lab.testing.promises import promised, require
from registry.metrics import METRICS, InFeatures, InPixels, Need, OfNetwork, Value
from registry.metrics.buckets import BUCKETS
from registry.metrics.gathered import Answers, Measured, Seen, Statistics
from registry.metrics.interval import BLOCKS
from registry.metrics.moments import Moments


@promised("metrics")
def metrics(make: Callable[[Any], Value | float | None]) -> None:
    traits = next(part.traits for part in METRICS if part.make is getattr(make, "func", make))
    words = traits.protocol if isinstance(traits.protocol, str) else traits.protocol(100, 100)
    require(isinstance(words, str), "the protocol of a metric is a text, or a function of two numbers that gives one")
    found = {}
    for distance in (0.0, 3.0):
        seen = _seen(traits.needs, distance)
        require(all(map(seen.has, traits.needs)), "what a metric needs goes together: features, pixels or the network")
        value, again = make(seen), make(_seen(traits.needs, distance))
        require(value == again, "a metric is the same when it is computed again")
        require(value is None or isinstance(value, (Value, float, int)), "a metric gives a Value, a number or None")
        found[distance] = value if isinstance(value, Value) else Value(value)
    for number, interval, *_ in found.values():
        require(number is None or math.isfinite(number), "a metric is finite")
        around = number is None or interval is None or interval[0] <= number <= interval[1]
        require(around, "the interval of a metric lies around its value")
    near, far = found[0.0].value, found[3.0].value
    if near is not None and far is not None and "pixels" not in traits.needs:  # where near is copied, which is no virtue
        require(near > far if traits.higher else near < far, "what is like the reference is better, as `higher` has it")


def _seen(needs: frozenset[Need], distance: float) -> Seen:
    """What is gathered of 300 images that lie so far from the reference, or of a network that is so much worse."""
    rng = torch.Generator().manual_seed(0)
    if "pixels" in needs:
        images = torch.randint(0, 256, (3, 40, 1, 8, 8), generator=rng, dtype=torch.uint8)
        return InPixels(images[0], images[1], lambda: images[2].split(16))
    if "network" in needs:
        return OfNetwork((1 + distance) * torch.rand(300, len(BUCKETS), generator=rng, dtype=torch.float64), (-9.0, 9.0))
    reference, features = torch.randn(2, 3, 100, 4, generator=rng, dtype=torch.float64)  # of three classes each
    features = features + distance
    right = 1.0 if distance == 0 else 0.0  # far from the reference the classifier sees the last class everywhere
    p = torch.full((3, 100, 3), 0.05, dtype=torch.float64)
    p[torch.arange(3), :, torch.tensor([0, 1, 2]) if right else 2] = 0.9
    blocks = features.flatten(0, 1)[torch.randperm(300, generator=rng)].view(BLOCKS, -1, 4)
    answers = Answers(
        p.flatten(0, 1).view(30, BLOCKS, 3).sum(0), (p * p.log()).sum(-1).flatten().view(30, BLOCKS).sum(0),
        torch.tensor([100, 100, 100] if right else [0, 0, 300]), torch.tensor(300 if right else 100),
    )  # fmt: skip
    some, known = features.flatten(0, 1).float(), reference.flatten(0, 1).float()
    measured = Measured(Moments.of(blocks), some, answers, Moments.of(features))
    return InFeatures(measured, Statistics(Moments.of(reference), known), ("a", "b", "c"), own_classes=True)
