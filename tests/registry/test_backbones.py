"""Backbones: shapes, gradients, independence, published sizes."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from registry.backbones import BACKBONES
from registry.errors import BadInput

SMALL = {
    "patch_unet": {"width": 16, "blocks": 1},
    "annotated_unet": {"width": 16, "multipliers": [1, 2]},
    "annotated_unet convnext": {"width": 16, "multipliers": [1, 2], "block": "convnext"},
    "adm_unet": {"width": 32, "multipliers": [1, 2], "blocks": 1, "head_channels": 32},
    "adm_unet improved": {
        "width": 32, "multipliers": [1, 2], "blocks": 1, "heads": 4, "head_channels": None, "resblock_updown": False,
        "scale_shift": False,
    },
    "edm2_unet": {"width": 16, "multipliers": [1, 2], "blocks": 1, "head_channels": 16, "bandwidth": 0.003},
    "dit": {"width": 32, "depth": 2, "heads": 2},
    "uvit": {"width": 32, "depth": 3, "heads": 2},
    "mlp": {"width": 64, "depth": 2},
}  # fmt: skip
CHECKPOINTED = ["adm_unet", "edm2_unet", "dit", "uvit"]


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


@pytest.mark.parametrize(("name", "factor"), [("patch_unet", 4), ("annotated_unet", 2), ("adm_unet", 2), ("edm2_unet", 2)])
def test_sizes_that_cannot_be_halved_are_refused_and_those_named_instead_fit(name: str, factor: int) -> None:
    with pytest.raises(BadInput, match=f"13 x 13: both sides must be multiples of {factor}") as caught:
        _network(name, (1, 13, 13))
    for size in str(caught.value).rsplit("such as ")[1].split(" or "):
        assert _network(name, (1, int(size), int(size)))


@pytest.mark.parametrize("name", ["dit", "uvit"])
def test_sizes_that_cannot_be_cut_are_refused_with_the_patches_that_fit(name: str) -> None:
    with pytest.raises(BadInput, match=r"28 x 28 into patches of 5; patches of 1, 2, 4, 7, 14, 28 fit"):
        BACKBONES.configure(name, {**SMALL[name], "patch": 5})((1, 28, 28), None, 1)
    for patch in (4, 7):
        network = BACKBONES.configure(name, {**SMALL[name], "patch": patch})((1, 28, 28), None, 1)
        assert network(torch.zeros(1, 1, 28, 28), torch.zeros(1)).shape == (1, 1, 28, 28)


@pytest.mark.parametrize("name", ["adm_unet", "edm2_unet"])
def test_attention_at_a_size_that_the_network_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=r"no feature map is 16 pixels high; they are 28, 14"):
        BACKBONES.configure(name, {**SMALL[name], "attention_resolutions": [16]})((1, 28, 28), None, 1)


# Where the paper has it so: a zero last layer, or in EDM2 a zero gain. U-ViT's is not.
@pytest.mark.parametrize("name", ["patch_unet", "adm_unet", "adm_unet improved", "edm2_unet", "dit", "mlp"])
def test_a_network_predicts_nothing_at_first(name: str) -> None:
    network = BACKBONES.configure(name.split()[0], SMALL[name])((1, 8, 8), 3, 2)
    assert float(network(torch.randn(2, 1, 8, 8), torch.zeros(2), torch.tensor([0, 3])).detach().abs().max()) == 0


@pytest.mark.parametrize("name", SMALL)
def test_the_layout_in_memory_changes_nothing(name: str) -> None:
    network, (x, label) = _network(name, (3, 16, 16), channels_out=3), (torch.randn(2, 3, 16, 16), torch.tensor([3.0, 700.0]))
    with torch.inference_mode():
        expected = network(x, label)
        last = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), label)
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_bf16_stays_within_its_error(name: str) -> None:
    network = _network(name, (3, 16, 16), channels_out=3)
    x, label = torch.randn(4, 3, 16, 16), torch.tensor([3.0, 90, 300, 990])
    with torch.inference_mode():
        exact = network(x, label)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(x, label).float()
    # bfloat16 has 8 significant bits: a relative error of 0.4 % for each of some ten roundings in a row.
    assert float((rounded - exact).square().mean().sqrt()) < 0.03 * float(exact.square().mean().sqrt())


@pytest.mark.parametrize("name", CHECKPOINTED)
def test_activation_checkpointing_saves_memory_and_changes_no_gradient(name: str) -> None:
    found = {}
    for on in (False, True):
        torch.manual_seed(0)
        network = BACKBONES.configure(name, {**SMALL[name], "activation_checkpointing": on})((1, 16, 16), None, 1)
        for parameter in network.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        kept = 0

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = network.eval()(torch.randn(2, 1, 16, 16), torch.tensor([3.0, 90.0]))
        out.square().sum().backward()
        found[on] = kept, torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
    assert found[True][0] < found[False][0] / 2
    torch.testing.assert_close(found[True][1], found[False][1])


# Measured for the published code of the annotated diffusion model at 28 x 28: one forward pass, one image. Ours projects the
# small context of linear attention instead of its output, which is the same and spares a fortieth of the products.
@pytest.mark.parametrize(("block", "gflop"), [("resnet", 0.324), ("convnext", 0.560)])
def test_annotated_unet_costs_what_the_published_network_costs(block: str, gflop: float) -> None:
    with torch.device("meta"):
        network = BACKBONES.configure("annotated_unet", {"block": block})((1, 28, 28), None, 1)
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 1, 28, 28), torch.zeros(1), None)
    assert 0.97 * gflop < counter.get_total_flops() / 1e9 < gflop


PAGE = (Path(__file__).parents[2] / "docs/backbones.md").read_text()
PUBLISHED = re.findall(
    r"^\| (.+?) \| (\d+) x (\d+) x (\d+) \| (\w+) \| (\d+) \| `(.+?)` \| ([\d.]+) M \| ([\d,]+) \|", PAGE, re.M
)


def test_the_page_has_all_that_was_published() -> None:
    assert len(PUBLISHED) == 11


@pytest.mark.parametrize("line", PUBLISHED, ids=[line[0] for line in PUBLISHED])
def test_published_configurations_have_their_published_sizes(line: tuple[str, ...]) -> None:
    _, channels, height, width, classes, channels_out, backbone, millions, counted = line
    options = yaml.safe_load(backbone)
    shape = (int(channels), int(height), int(width))
    with torch.device("meta"):
        part = BACKBONES.configure(options.pop("name"), options)
        network = part(shape, None if classes == "none" else int(classes), int(channels_out))
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == int(counted.replace(",", ""))
    assert count / 1e6 == pytest.approx(float(millions), rel=0.01)  # some papers round to two digits


def test_dit_xl_has_to_the_last_one_the_parameters_that_its_own_code_prints() -> None:
    with torch.device("meta"):
        network = BACKBONES.configure("dit", {"width": 1152, "depth": 28, "heads": 16})((4, 32, 32), 1000, 8)
    # There the fixed positions count too.
    assert sum(parameter.numel() for parameter in network.parameters()) + network.position.numel() == 675_129_632


def test_widths_that_do_not_divide_are_refused_in_words() -> None:
    with pytest.raises(BadInput, match="multiple of 8"):
        BACKBONES.configure("patch_unet", {"width": 20})((1, 8, 8), None, 1)
    with pytest.raises(BadInput, match="heads"):
        BACKBONES.configure("patch_unet", {"width": 16, "heads": 3})((1, 8, 8), None, 1)
    with pytest.raises(BadInput, match="multiple of 4"):
        BACKBONES.configure("annotated_unet", {"width": 18})((1, 8, 8), None, 1)
    with pytest.raises(BadInput, match="multiple of 32"):
        BACKBONES.configure("adm_unet", {"width": 48})((1, 8, 8), None, 1)
    with pytest.raises(BadInput, match="the other one to null"):
        BACKBONES.configure("adm_unet", {"heads": 4})((1, 8, 8), None, 1)
    with pytest.raises(BadInput, match="not a multiple of 64"):
        BACKBONES.configure("edm2_unet", {"width": 48})((1, 8, 8), None, 1)
    with pytest.raises(BadInput, match="take 3 or 5"):
        BACKBONES.configure("uvit", {"depth": 4})((1, 8, 8), None, 1)
