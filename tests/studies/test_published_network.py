"""The network of recipe `annotated` against the published one, written apart from the lab in benchmarks/peers."""

import pytest
import torch
from torch import nn

from benchmarks.peers.annotated_network import Attention, ConvNeXt, PublishedUNet, ResNet
from ddpm_lab.config.load import load_recipe
from ddpm_lab.diffusion.build import build_model
from ddpm_lab.diffusion.model import DataShape, Model
from registry.backbones.annotated_unet import ConvNeXtBlock, FullAttention, LinearAttention, ResNetBlock

BLOCKS = {"resnet": ResNet, "convnext": ConvNeXt}


def _recipe(block: str) -> Model:
    shape = DataShape("fashion_mnist", (1, 28, 28), None, 0.7, "")
    return build_model(load_recipe("annotated", [f"backbone.block={block}"]).experiment, shape, torch.device("cpu"))


def _pairs(ours: nn.Module, theirs: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """The layers that do the same in two blocks, or in two attentions."""
    if isinstance(theirs, Attention):
        out = (ours.to_out, theirs.out)
        if isinstance(ours, LinearAttention):
            out = (nn.Sequential(ours.to_out, ours.norm_out), theirs.out)
        return [(ours.norm, theirs.norm), (ours.to_qkv, theirs.qkv), out]
    found = [(ours.skip, theirs.shortcut)] + ([] if theirs.time is None else [(ours.to_shift, theirs.time[1])])
    if isinstance(theirs, ResNet):
        return [
            *found,
            (nn.Sequential(ours.conv1, ours.norm1), theirs.one),
            (nn.Sequential(ours.conv2, ours.norm2), theirs.two),
        ]
    return [*found, (ours.depthwise, theirs.depthwise), (ours.layers, theirs.net)]


def _fill(ours: nn.Module, theirs: PublishedUNet) -> None:
    """Give ours their weights, layer by layer."""
    kinds = (ResNetBlock, ConvNeXtBlock, LinearAttention, FullAttention)
    scales = [*ours.down, *ours.up]
    stages = [*theirs.down, *theirs.up]
    pairs = [(ours.embed_noise.layers, theirs.time[1:]), (ours.stem, theirs.first), (ours.head, theirs.head)]
    pairs += [
        (scale[3], resample) for scale, resample in zip([*ours.down[:2], *ours.up], [*theirs.shrink, *theirs.grow], strict=True)
    ]
    blocks = [each for scale in scales for each in scale if isinstance(each, kinds)]
    blocks += [ours.middle_in, ours.middle_attention, ours.middle_out, ours.head_block]
    others = [each for stage in stages for each in (stage.one, stage.two, stage.attention)] + [*theirs.middle, theirs.last]
    for mine, other in zip(blocks, others, strict=True):
        pairs += _pairs(mine, other)
    for mine, other in pairs:
        for parameter, value in zip(mine.parameters(), other.parameters(), strict=True):
            assert parameter.shape == value.shape
            parameter.copy_(value)


@pytest.mark.parametrize("block", BLOCKS)
def test_recipe_annotated_computes_what_the_published_network_does(block: str) -> None:
    torch.manual_seed(0)
    theirs, model = PublishedUNet(BLOCKS[block]), _recipe(block)
    with torch.no_grad():
        for parameter in theirs.parameters():  # so that no norm and no bias is as it begins
            parameter.add_(0.05 * torch.randn_like(parameter))
        _fill(model.network, theirs)
        x, t = torch.randn(3, 1, 28, 28), torch.tensor([0, 7, 199])
        ours = model.diffusion.predict(model.network, x, t.double(), None)
        torch.testing.assert_close(ours, theirs(x, t), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("block", BLOCKS)
def test_both_have_as_many_parameters(block: str) -> None:
    networks = (_recipe(block).network, PublishedUNet(BLOCKS[block]))
    ours, theirs = (sum(parameter.numel() for parameter in network.parameters()) for network in networks)
    assert ours == theirs
