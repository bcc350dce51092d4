"""The held-out loss against the closed form for Gaussian data, and what may be compared of it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ddpm_lab.config.load import load_recipe
from ddpm_lab.diffusion.build import build_model
from ddpm_lab.diffusion.model import DataShape, Model
from ddpm_lab.diffusion.sampling import ImageSampler
from ddpm_lab.evaluation.held_out_errors import held_out_errors, of_network
from ddpm_lab.reports import comparison as compare
from ddpm_lab.reports.shared_buckets import averaged_over, over_shared
from ddpm_lab.storage.measurement import Measurement, plain
from registry.datasets import ImageSet, Split
from registry.errors import BadInput
from registry.metrics.buckets import EDGES


class Perfect(nn.Module):
    """The posterior mean of x_0 for pixels N(0, 0.09), in whatever the target asks for."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model, self.none = model, nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, label: Tensor, y: Tensor | None) -> Tensor:
        diffusion = self.model.diffusion
        alpha, sigma = (value[:, None, None, None].float() for value in diffusion.path.at(label.double()))
        x0 = alpha * 0.09 / (alpha**2 * 0.09 + sigma**2) * x
        return diffusion.target.of(x0, (x - alpha * x0) / sigma, alpha, sigma)


@pytest.mark.parametrize("overrides", [[], ["target=v"], ["schedule=linear", "target=x0"]])
def test_it_is_what_the_closed_form_gives_whatever_the_target_and_schedule(overrides: list[str]) -> None:
    experiment = load_recipe("smoke", overrides).experiment
    model = build_model(experiment, DataShape("none", (1, 8, 8), None, 0.3, ""), torch.device("cpu"))
    images = (torch.randn(4000, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.3 * 127.5 + 127.5).round()
    images = images.clamp(0, 255).to(torch.uint8)
    found = held_out_errors(model, Perfect(model), images, None, "fp32").mean(0).tolist()
    for low, high, loss in zip(EDGES[1:-2], EDGES[2:-1], found[1:-1], strict=True):
        # The error of eps is alpha^2 / sigma^2 times the posterior variance of x_0: snr v / (snr v + 1) with v = 0.09.
        snr = torch.linspace(low, high, 1001, dtype=torch.float64).exp()
        expected = float((snr * 0.09 / (snr * 0.09 + 1)).mean())
        # One pixel in a thousand lies beyond [-1, 1] and is cut off.
        assert loss == pytest.approx(expected, rel=0.03)


def _record(model: Model, data: ImageSet, n: int) -> Measurement:
    sampler = ImageSampler(model, Perfect(model), None, data.image_shape, "fp32")  # type: ignore[arg-type]  # nothing is sampled
    (record,) = of_network(sampler, data, n, {"weights": "ema", "precision": "fp32"}, ["held_out_loss"])
    return record


SCHEDULES = ("cosine", "linear", "scaled_linear", "quadratic", "sigmoid", "laplace", "edm", "flow")


@pytest.fixture(scope="module")
def records() -> dict[str, Measurement]:
    """What the exact denoiser scores on the same Gaussian images with each schedule."""
    images = (torch.randn(250, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.3 * 127.5 + 127.5).round()
    split = Split(images.clamp(0, 255).to(torch.uint8), None)
    data, found = ImageSet("gaussian", split, split, None, "this test"), {}
    for schedule in SCHEDULES:
        experiment = load_recipe("smoke", [f"schedule={schedule}", "target=v", "timesteps=1000"]).experiment
        model = build_model(experiment, DataShape("none", (1, 8, 8), None, 0.3, ""), torch.device("cpu"))
        found[schedule] = _record(model, data, 250)
    return found


def _write(folder: Path, records: dict[str, Measurement]) -> list[str]:
    for name, record in records.items():
        (folder / name).mkdir()
        (folder / name / "resolved.yaml").touch()
        (folder / name / "result.json").write_text(json.dumps({"metrics": [plain(record)]}))
    return [str(folder / name) for name in records]


def test_compare_gives_the_exact_denoiser_one_value_on_every_schedule(records: dict[str, Measurement], tmp_path: Path) -> None:
    """On the buckets that laplace covers, of log SNR -2 to 2: the closed form of the test above."""
    *rows, protocol = compare.rank(_write(tmp_path, records), "held_out_loss", None, None).lines()
    values = [float(row.split()[1]) for row in rows[1:]]
    snr = torch.linspace(-2, 2, 1001, dtype=torch.float64).exp()
    assert values == pytest.approx([float((snr * 0.09 / (snr * 0.09 + 1)).mean())] * len(SCHEDULES), rel=0.01)
    assert "-2 to 0; 0 to 2" in protocol
    assert "0 to 2; 2" not in protocol


def test_a_record_says_which_buckets_its_path_wholly_covers(records: dict[str, Measurement]) -> None:
    # Without the option's own formulas: Stable Diffusion's sigmas go from 0.0292 to 14.6146, EDM's from 0.002 to 80.
    assert records["edm"].covered == tuple(records["edm"].detail), "2 ln 80 = 8.8"
    assert records["scaled_linear"].covered == ("-4 to -2", "-2 to 0", "0 to 2", "2 to 4", "4 to 6")
    assert set(records["laplace"].detail) - set(records["laplace"].covered), "the others are kept, and left out"
    for record in records.values():
        assert record.value == pytest.approx(math.fsum(record.detail[b] for b in record.covered) / len(record.covered))
    assert all(f"{edge:g}" in records["edm"].protocol.metric for edge in EDGES)
    assert len({record.fingerprint for record in records.values()}) == 1


def test_a_path_that_covers_no_bucket_has_its_buckets_and_no_value() -> None:
    split = Split(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), None)
    data = ImageSet("black", split, split, None, "this test")
    experiment = load_recipe("smoke", ["schedule={name: edm, sigma_min: 0.9, sigma_max: 1.1}", "target=v", "timesteps=1000"])
    model = build_model(experiment.experiment, DataShape("none", (1, 8, 8), None, 0.3, ""), torch.device("cpu"))
    found = _record(model, data, 4)
    assert found.value is None
    assert "-0.191 to 0.211, wholly covers none" in found.unavailable
    assert len(found.detail) == 8


def test_the_interval_of_other_buckets_is_that_of_the_images_means(records: dict[str, Measurement]) -> None:
    losses = torch.rand(50, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(1)
    record = replace(records["edm"], covariance=(losses.T.cov() / 50).tolist())
    chosen = list(record.detail)[2:5]
    low, high = averaged_over(record, chosen).interval
    assert (high - low) / 2 == pytest.approx(1.96 * float(losses[:, 2:5].mean(1).std()) / 50**0.5)


def test_paths_without_a_common_bucket_and_records_that_do_not_know_theirs_are_refused(records: dict[str, Measurement]) -> None:
    far = replace(records["edm"], covered=("6 to 8",))
    with pytest.raises(BadInput, match=r"no bucket .*\(a: 6 to 8; b: -2 to 0, 0 to 2"):
        over_shared([far, records["laplace"]], ["a", "b"])
    old = replace(far, covered=None)
    with pytest.raises(BadInput, match="b: its held_out_loss does not say which buckets"):
        over_shared([far, old], ["a", "b"])
