"""The held-out loss against the closed form for Gaussian data."""

import pytest
import torch
from torch import Tensor, nn

from ddpm_lab.build import DataShape, Model, build_model
from ddpm_lab.held_out import EDGES, held_out_loss
from ddpm_lab.recipe import load_recipe


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
    found = held_out_loss(model, Perfect(model), images, None, "fp32").mean(0).tolist()
    for low, high, loss in zip(EDGES[1:-2], EDGES[2:-1], found[1:-1], strict=True):
        # The error of eps is alpha^2 / sigma^2 times the posterior variance of x_0: snr v / (snr v + 1) with v = 0.09.
        snr = torch.linspace(low, high, 1001, dtype=torch.float64).exp()
        expected = float((snr * 0.09 / (snr * 0.09 + 1)).mean())
        # One pixel in a thousand lies beyond [-1, 1] and is cut off.
        assert loss == pytest.approx(expected, rel=0.03)
