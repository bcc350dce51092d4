"""The conformance kit: every built-in part keeps its promises, and a part that breaks one is caught."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddpm_lab.testing import CHECKS, conforms
from registry.losses import LOSSES
from registry.path import NoisePath
from registry.plugins import REGISTRIES
from registry.weightings import WEIGHTINGS, Weighting

# Those that need files or the hub have tests of their own.
LEFT_OUT = {"fashion_mnist", "mnist", "cifar10", "hub", "idx", "npz", "image_folder", "inception_v3"}
PARTS = [(category, part) for category, parts in REGISTRIES.items() for part in parts if part.name not in LEFT_OUT]


@pytest.mark.parametrize(("category", "part"), PARTS, ids=[f"{category}-{part.name}" for category, part in PARTS])
def test_a_built_in_part_conforms(category: str, part: Any) -> None:
    conforms(part.make)


def test_every_category_has_its_check() -> None:
    assert set(CHECKS) == set(REGISTRIES)


@pytest.fixture
def clean_registries() -> Iterator[None]:
    """What a test registers is taken out again."""
    before = {name: dict(registry._parts) for name, registry in REGISTRIES.items()}
    yield
    for name, registry in REGISTRIES.items():
        registry._parts = before[name]


def _registered_loss(function: Any, doc: str) -> Any:
    function.__doc__ = doc
    return LOSSES.register("broken")(function)


@pytest.mark.parametrize(
    ("doc", "body", "promise"),
    [
        ("A loss of nobody.", lambda p, t: (p - t) ** 2, "names its source"),
        ("Nobody 2020.", lambda p, t: ((p - t) ** 2).mean(), "elementwise"),
        ("Nobody 2020.", lambda p, t: ((p - t) ** 2).float(), "keeps the dtype"),
        ("Nobody 2020.", lambda p, t: p - t, "not negative"),
        ("Nobody 2020.", lambda p, t: (p - t) ** 2 + torch.rand(()), "computed again"),
        ("Nobody 2020.", lambda p, t: (p - t).abs().sqrt() * 0 + 1, "0 where the prediction is right"),
        ("Nobody 2020.", lambda p, t: 1 - torch.exp(-((p - t) ** 2) * 0), "grows with the error"),
    ],
)
def test_a_loss_that_breaks_a_promise_is_caught(doc: str, body: Any, promise: str, clean_registries: None) -> None:
    def broken(prediction: Tensor, target: Tensor) -> Tensor:
        return body(prediction, target)  # type: ignore[no-any-return]

    with pytest.raises(AssertionError, match=promise):
        conforms(_registered_loss(broken, doc))


def test_a_new_idea_passes_where_it_says_that_it_has_no_source(clean_registries: None) -> None:
    conforms(_registered_loss(lambda prediction, target: (prediction - target) ** 2, "Squared error again; no source."))


def test_a_weighting_that_is_infinite_is_caught(clean_registries: None) -> None:
    @WEIGHTINGS.register("endless")
    class Endless(Weighting):
        """1 / 0 (nobody 2020)."""

        space = "x0"

        def __call__(self, log_snr: Tensor, slope: Tensor) -> Tensor:
            return 1 / log_snr

    with pytest.raises(AssertionError, match="finite"):
        conforms(Endless)


def test_a_network_that_leaves_a_parameter_out_is_caught(clean_registries: None) -> None:
    @REGISTRIES["backbones"].register("idle")
    class Idle(nn.Module):
        """A convolution, and another that nothing uses."""

        def __init__(self, image_shape: tuple[int, int, int], classes: int | None, channels_out: int) -> None:
            super().__init__()
            self.used = nn.Conv2d(image_shape[0], channels_out, 1)
            self.idle = nn.Conv2d(image_shape[0], channels_out, 1)

        def forward(self, x: Tensor, label: Tensor, y: Tensor | None) -> Tensor:
            return self.used(x)  # type: ignore[no-any-return]

    with pytest.raises(AssertionError, match=r"idle\.weight"):
        conforms(Idle)


def test_an_option_that_is_ignored_is_caught(clean_registries: None) -> None:
    @LOSSES.register("deaf")
    def deaf(prediction: Tensor, target: Tensor, *, delta: float = 1.0) -> Tensor:
        """Squared error, whatever delta is (nobody 2020)."""
        return (prediction - target) ** 2

    with pytest.raises(AssertionError, match="option delta changes something"):
        conforms(deaf)


def test_what_is_not_registered_is_said_so() -> None:
    with pytest.raises(AssertionError, match="is not registered"):
        conforms(print)


@pytest.mark.parametrize("wrong", ["missing", "flat", "half"])
def test_levels_whose_density_is_missing_or_another_are_caught(wrong: str, clean_registries: None) -> None:
    from registry.levels.logit_normal import LogitNormal

    class Middle(LogitNormal):
        """In the middle of the path (Esser et al. 2024)."""

        def density(self, level: Tensor) -> Tensor:
            return self.path.uniform_density(level) if wrong == "flat" else super().density(level) / 2

    class Unknown:
        """In the middle of the path (Esser et al. 2024)."""

        def __init__(self, path: NoisePath) -> None:
            self.levels = LogitNormal(path)

        def __call__(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
            return self.levels(count, rng)

    made = REGISTRIES["levels"].register("middle")(Unknown if wrong == "missing" else Middle)
    with pytest.raises(
        AssertionError, match="give their density" if wrong == "missing" else "the density is that of the levels"
    ):
        conforms(made)


def test_a_weight_over_log_snr_that_reads_the_slope_is_caught(clean_registries: None) -> None:
    @WEIGHTINGS.register("twice")
    class Twice(Weighting):
        """Divided by the density, and multiplied by the slope (nobody 2020)."""

        space = "eps"
        per_log_snr = True

        def __call__(self, log_snr: Tensor, slope: Tensor) -> Tensor:
            return -slope

    with pytest.raises(AssertionError, match="does not depend on the path's slope"):
        conforms(Twice)
