"""Backbones: shapes, gradients, independence, published sizes."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from registry.backbones import BACKBONES
from registry.errors import BadInput

SMALL = {
    "patch_unet": {"width": 16, "blocks": 1},
    "annotated_unet": {"width": 16, "multipliers": [1, 2]},
    "annotated_unet convnext": {"width": 16, "multipliers": [1, 2], "block": "convnext"},
}


def _network(
    name: str, shape: tuple[int, int, int] = (1, 8, 8), classes: int | None = None, channels_out: int = 1
) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = BACKBONES.configure(name.split()[0], SMALL[name])(shape, classes, channels_out)
    # Zero-initialised layers would hide what lies before them.
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network.eval()


def test_every_backbone_is_tested_here() -> None:
    assert {name.split()[0] for name in SMALL} == {part.name for part in BACKBONES}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 16, 24)])
@pytest.mark.parametrize("classes", [None, 5])
def test_shapes_and_gradients(name: str, shape: tuple[int, int, int], classes: int | None) -> None:
    network = _network(name, shape, classes, channels_out=2 * shape[0])
    y = None if classes is None else torch.tensor([0, 4, 5])
    out = network(torch.randn(3, *shape), torch.tensor([0.0, 500.0, 999.0]), y)
    assert out.shape == (3, 2 * shape[0], *shape[1:])
    out.square().mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert float(parameter.grad.abs().sum()) > 0, key


@pytest.mark.parametrize("name", SMALL)
def test_an_image_does_not_depend_on_its_neighbours_but_on_level_and_class(name: str) -> None:
    network = _network(name, classes=3)
    x, label, y = torch.randn(4, 1, 8, 8), torch.tensor([1.0, 10.0, 100.0, 900.0]), torch.tensor([0, 1, 2, 3])
    with torch.inference_mode():
        together = network(x, label, y)
        torch.testing.assert_close(network(x[2:3], label[2:3], y[2:3]), together[2:3], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(network(x, label.flip(0), y), together, atol=1e-4)
        assert not torch.allclose(network(x, label, y.roll(1)), together, atol=1e-4)
        # None is the label after the last class.
        torch.testing.assert_close(network(x, label, None), network(x, label, torch.full((4,), 3)))


@pytest.mark.parametrize(("name", "factor"), [("patch_unet", 4), ("annotated_unet", 2)])
def test_sizes_that_cannot_be_halved_are_refused_and_those_named_instead_fit(name: str, factor: int) -> None:
    with pytest.raises(BadInput, match=f"13 x 13: both sides must be multiples of {factor}") as caught:
        _network(name, (1, 13, 13))
    for size in str(caught.value).rsplit("such as ")[1].split(" or "):
        assert _network(name, (1, int(size), int(size)))


def test_patch_unet_predicts_nothing_at_first() -> None:
    network = BACKBONES.configure("patch_unet", SMALL["patch_unet"])((1, 8, 8), None, 1)
    assert float(network(torch.randn(2, 1, 8, 8), torch.zeros(2)).abs().max()) == 0


# Measured for the published code of the annotated diffusion model at 28 x 28: one forward pass, one image.
@pytest.mark.parametrize(("block", "gflop"), [("resnet", 0.324), ("convnext", 0.560)])
def test_annotated_unet_costs_what_the_published_network_costs(block: str, gflop: float) -> None:
    with torch.device("meta"):
        network = BACKBONES.configure("annotated_unet", {"block": block})((1, 28, 28), None, 1)
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 1, 28, 28), torch.zeros(1), None)
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, abs=5e-4)


def test_widths_that_do_not_divide_are_refused_in_words() -> None:
    with pytest.raises(BadInput, match="multiple of 8"):
        BACKBONES.configure("patch_unet", {"width": 20})((1, 8, 8), None, 1)
    with pytest.raises(BadInput, match="heads"):
        BACKBONES.configure("patch_unet", {"width": 16, "heads": 3})((1, 8, 8), None, 1)
    with pytest.raises(BadInput, match="multiple of 4"):
        BACKBONES.configure("annotated_unet", {"width": 18})((1, 8, 8), None, 1)
