"""What EDM2 claims of its network: magnitudes are kept by every layer, weights by every step."""

import math

import pytest
import torch
from torch import nn

from registry.backbones import BACKBONES
from registry.backbones.edm2_unet import EDM2UNet, MPBlock, MPFourier, MPLayer, mp_cat, mp_silu, mp_sum


def _rms(x: torch.Tensor) -> float:
    return float(x.detach().square().mean().sqrt())


def test_pieces_keep_the_magnitude_of_standard_normal_input() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(64, 96, 8, 8), torch.randn(64, 32, 8, 8)
    assert _rms(mp_silu(a)) == pytest.approx(1, abs=0.01)
    assert _rms(mp_sum(a, torch.randn_like(a), 0.3)) == pytest.approx(1, abs=0.01)
    # With t = 0.5 both sides weigh the same, however many channels they have.
    joined = mp_cat(a, b, 0.5)
    assert _rms(joined) == pytest.approx(1, abs=0.01)
    assert float(joined[:, :96].square().sum() / joined[:, 96:].square().sum()) == pytest.approx(1, abs=0.02)
    assert _rms(MPFourier(4096, 1.0)(torch.linspace(-2, 2, 50))) == pytest.approx(1, abs=0.03)
    for layer, x in ((MPLayer(96, 512, 3), a), (MPLayer(64, 4096, 0), torch.randn(256, 64))):
        out = layer.eval()(x)
        inner = out[..., 1:-1, 1:-1] if out.ndim == 4 else out  # padding adds zeros at the border
        assert _rms(inner) == pytest.approx(1, abs=0.03)


def _network(classes: int | None = 10) -> EDM2UNet:
    torch.manual_seed(0)
    options = {"width": 64, "multipliers": [1, 2], "blocks": 2, "head_channels": 64}
    return BACKBONES.configure("edm2_unet", options)((3, 16, 16), classes, 3)


def test_activations_keep_unit_magnitude_through_the_network_at_initialisation() -> None:
    network, seen = _network().eval(), {}
    for name, module in network.named_modules():
        if isinstance(module, MPBlock) or (isinstance(module, MPLayer) and "embed" in name):
            module.register_forward_hook(lambda module, inputs, out, name=name: seen.update({name: _rms(out)}))
    with torch.inference_mode():
        network(torch.randn(16, 3, 16, 16), torch.linspace(-1.5, 1, 16), torch.arange(16) % 11)
    assert len(seen) > 10
    # Zeros at the border of 3 x 3 convolutions take a few per cent each, most on the 8 x 8 maps.
    for name, magnitude in seen.items():
        assert 0.8 < magnitude < 1.15, (name, magnitude)


def test_weights_keep_unit_magnitude_through_training() -> None:
    network = _network().train()
    with torch.no_grad():
        network.gain.fill_(1.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=3.0)  # so large that free weights would grow
    drifted = 0.0
    for step in range(5):
        x = torch.randn(4, 3, 16, 16)
        (network(x, torch.randn(4), torch.tensor([0, 1, 2, 10])) - x).square().mean().backward()
        for module in _layers(network):  # as they were in this forward pass
            assert torch.allclose(_norms(module), torch.full((len(module.weight),), _unit(module)), rtol=1e-3), step
        optimizer.step()
        optimizer.zero_grad()
        drifted = max(drifted, *(float((_norms(module) / _unit(module) - 1).abs().max()) for module in _layers(network)))
    assert drifted > 0.01  # the step took them off it, the next forward pass brought them back


def _layers(network: nn.Module) -> list[MPLayer]:
    return [module for module in network.modules() if isinstance(module, MPLayer)]


def _norms(layer: MPLayer) -> torch.Tensor:
    return layer.weight.detach().flatten(1).norm(dim=1)


def _unit(layer: MPLayer) -> float:
    """The norm of a row whose elements have unit root mean square."""
    return math.sqrt(layer.weight[0].numel())


def test_the_scale_of_stored_weights_changes_no_output() -> None:
    network, x, label = _network(None).eval(), torch.randn(2, 3, 16, 16), torch.tensor([-1.0, 0.5])
    with torch.inference_mode():
        network.gain.fill_(1.0)
        expected = network(x, label)
        for module in _layers(network):
            module.weight.mul_(7.0)
        torch.testing.assert_close(network(x, label), expected, rtol=1e-3, atol=1e-3)
