"""Which metrics are measured, and what is said of an extractor that was made for other images."""

from pathlib import Path

import pytest
import torch

from ddpm_lab.config.load import load_recipe
from ddpm_lab.evaluation.accumulator import numbered
from ddpm_lab.evaluation.evaluate import evaluate_images, evaluators
from ddpm_lab.evaluation.evaluator import Evaluator
from ddpm_lab.evaluation.extractors import suited_first
from ddpm_lab.reports.result_table import result_lines
from ddpm_lab.runner.preflight import lines as check_lines
from registry.choice import Choice
from registry.datasets import ImageSet
from registry.datasets.shapes import shapes
from registry.errors import BadInput
from registry.features import FEATURES, MadeFor, made_for
from registry.features.fashion_cnn import FashionCNNFeatures
from registry.metrics import METRICS

CPU = torch.device("cpu")
EXPENSIVE = ("registry.metrics.kid.kernel", "registry.metrics.precision_recall.precision_recall",
             "registry.metrics.density_coverage.density_coverage", "registry.metrics.memorisation.nearest_distances",
             "ddpm_lab.evaluation.evaluate.in_pixels")  # fmt: skip


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    monkeypatch.setenv("DDPM_LAB_CACHE", str(tmp_path))
    return shapes(size=28, count=64)


def _named(evaluator: Evaluator) -> list[str]:
    images = torch.randint(0, 256, (40, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return [record.metric for record in evaluate_images([evaluator], numbered(images.split(20)), 40, {})]


def test_what_nobody_wants_is_not_computed(data: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("nobody wanted this")

    for name in EXPENSIVE:
        monkeypatch.setattr(name, never)
    evaluator = Evaluator(Choice("fashion_cnn", {}), data, CPU, frozenset({"FID"}))
    assert _named(evaluator) == ["FID"]
    assert _named(Evaluator(Choice("fashion_cnn", {}), data, CPU, frozenset({"IS"}))) == ["FID", "IS"]


def test_those_that_are_wanted_are_measured_and_all_by_default(data: ImageSet) -> None:
    wanted = frozenset({"KID", "recall", "coverage", "memorisation"})
    assert _named(Evaluator(Choice("fashion_cnn", {}), data, CPU, wanted)) == [
        "FID",
        "KID",
        "recall",
        "coverage",
        "memorisation",
    ]
    assert set(_named(Evaluator(Choice("fashion_cnn", {}), data, CPU))) >= {"FID", "KID", "precision", "density", "IS"}


def test_a_run_measures_what_its_experiment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_lab.cli.main import main
    from ddpm_lab.storage.json_text import read_json

    few = ["train.images=64", "evaluate.n=8", "evaluate.every=null", "sampling.steps=1", "track=none", "evaluate.metrics=[KID]"]
    assert main(["run", "smoke", *few, "--results", str(tmp_path)]) == 0
    assert [record["metric"] for record in read_json(tmp_path / "latest/result.json")["metrics"]] == ["FID", "KID"]


def test_a_metric_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"command line: evaluate\.metrics: there is no metric 'KIDD'; did you mean 'KID'"):
        load_recipe("smoke", ["evaluate.metrics=[KIDD]"])
    names = tuple(part.name for part in METRICS)
    assert load_recipe("smoke", [f"evaluate.metrics=[{', '.join(names)}]"]).experiment.evaluate.metrics == names


@pytest.mark.parametrize(
    ("made", "fits"),
    [(MadeFor(), True), (MadeFor((28, 28), 1, "shapes"), True), (MadeFor((28, 28), 1, "fashion_mnist"), False),
     (MadeFor((32, 32)), False), (MadeFor(channels=3), False), (MadeFor(channels=1), True)],
)  # fmt: skip
def test_an_extractor_says_what_it_was_made_for(made: MadeFor, fits: bool) -> None:
    assert made.fits((1, 28, 28), "shapes") is fits


def test_an_extractor_on_other_data_is_labelled_wherever_its_value_stands(data: ImageSet) -> None:
    images = data.test.images[:30]
    (fid, *_) = evaluate_images([Evaluator(Choice("fashion_cnn", {}), data, CPU)], numbered([images]), 30, {})
    assert fid.extractor == "fashion_cnn", "by which values are compared"
    assert "fashion_cnn, not made for this data, N = 30 against" in "\n".join(result_lines([fid]))
    garments = ImageSet("fashion_mnist", data.train, data.test, data.class_names, "here", "none")
    (fid, *_) = evaluate_images([Evaluator(Choice("fashion_cnn", {}), garments, CPU)], numbered([images]), 30, {})
    assert "fashion_cnn, N = 30 against" in "\n".join(result_lines([fid]))


def test_one_that_fits_comes_first(data: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fitting(FashionCNNFeatures):
        """For shapes (no source)."""

        made_for = MadeFor(data="shapes")

    monkeypatch.setattr(FEATURES, "_parts", FEATURES._parts.copy())
    FEATURES.register("fitting")(Fitting)
    choices = [Choice("fashion_cnn", {}), Choice("fitting", {})]
    assert [one.name for one in suited_first(choices, data)] == ["fitting", "fashion_cnn"]
    ready, _ = evaluators(choices, data, CPU)
    assert [evaluator.name for evaluator in ready] == ["fitting", "fashion_cnn"]


def test_check_says_which_extractor_was_not_made_for_the_data() -> None:
    (line,) = [line for line in check_lines(load_recipe("smoke"), "cpu") if line.startswith("features")]
    assert line.endswith("fashion_cnn, not made for this data but for 28 x 28 gray images of fashion_mnist")


def test_an_extractor_that_says_nothing_is_for_any_images() -> None:
    assert made_for(object()) == MadeFor()
    assert str(MadeFor(channels=3, data="cifar10")) == "RGB images of cifar10"
