"""adm_unet as diffusers' UNet2DModel."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ddpm_lab.export.component import Component, Inexpressible
from registry.traits import Options

# The lab's name of a layer in a residual block and in attention, and diffusers'.
BLOCK = {
    "norm1": "norm1", "conv1": "conv1", "to_scale_shift": "time_emb_proj", "norm2": "norm2", "conv2": "conv2",
    "skip": "conv_shortcut",
}  # fmt: skip
GROUPS = 32  # of each normalisation
TOP = {
    "stem": "conv_in", "norm": "conv_norm_out", "head": "conv_out", "embed_noise.layers.0": "time_embedding.linear_1",
    "embed_noise.layers.2": "time_embedding.linear_2", "embed_class": "class_embedding",
}  # fmt: skip


def unet(state: Mapping[str, Tensor], options: Options, image_shape: tuple[int, int, int], classes: int | None) -> Component:
    """The network with these weights, as `options` of the experiment made it.

    Raises:
        Inexpressible: UNet2DModel has no such network.
    """
    channels, height, width = image_shape
    multipliers, updown = options["multipliers"], options["resblock_updown"]
    if options["heads"] is not None:
        raise Inexpressible("UNet2DModel counts the channels of a head, not the heads: set head_channels")
    if multipliers[0] != 1:
        raise Inexpressible("UNet2DModel embeds the noise level in the width of its first scale: its multiplier must be 1")
    down = [_down_type(state, f"down.{scale}.", updown) for scale in range(len(multipliers))]
    config = {
        "sample_size": height if height == width else [height, width], "in_channels": channels,
        "out_channels": len(state["head.weight"]), "layers_per_block": options["blocks"],
        "block_out_channels": [options["width"] * multiplier for multiplier in multipliers],
        "down_block_types": down, "up_block_types": [name.replace("Down", "Up").replace("down", "up") for name in down[::-1]],
        "downsample_type": "resnet" if updown else "conv", "upsample_type": "resnet" if updown else "conv",
        "resnet_time_scale_shift": "scale_shift" if options["scale_shift"] else "default", "dropout": options["dropout"],
        "attention_head_dim": options["head_channels"], "norm_num_groups": GROUPS, "attn_norm_num_groups": GROUPS,
        "norm_eps": 1e-5, "flip_sin_to_cos": False, "freq_shift": 0,
        "num_class_embeds": None if classes is None else classes + 1,
    }  # fmt: skip
    weights: dict[str, Tensor] = {}
    for name, tensor in state.items():
        weights |= _renamed(name, tensor)
    return Component("unet", "UNet2DModel", config, weights)


def _down_type(state: Mapping[str, Tensor], place: str, updown: bool) -> str:
    if any(name.startswith(place) and ".attention." in name for name in state):
        return "AttnDownBlock2D"
    return "ResnetDownsampleBlock2D" if updown else "DownBlock2D"


def _renamed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """One tensor of the lab's network under diffusers' name; three for queries, keys and values."""
    place, _, kind = name.rpartition(".")
    if place in TOP:
        return {f"{TOP[place]}.{kind}": tensor}
    match place.split("."):
        case ["middle_in", layer]:
            return _block("mid_block.resnets.0", layer, kind, tensor)
        case ["middle_out", layer]:
            return _block("mid_block.resnets.1", layer, kind, tensor)
        case ["middle_attention", layer]:
            return _attention("mid_block.attentions.0", layer, kind, tensor)
        case [way, scale, "step", layer]:
            return _block(f"{way}_blocks.{scale}.{way}samplers.0", layer, kind, tensor)
        case [way, scale, "stages", stage, "block", layer]:
            return _block(f"{way}_blocks.{scale}.resnets.{stage}", layer, kind, tensor)
        case [way, scale, "stages", stage, "attention", layer]:
            return _attention(f"{way}_blocks.{scale}.attentions.{stage}", layer, kind, tensor)
    raise AssertionError(f"{name} has no place in UNet2DModel")


def _block(place: str, layer: str, kind: str, tensor: Tensor) -> dict[str, Tensor]:
    return {f"{place}.{BLOCK.get(layer, layer)}.{kind}": tensor}


def _attention(place: str, layer: str, kind: str, tensor: Tensor) -> dict[str, Tensor]:
    """Where the lab convolves with one pixel, diffusers has linear layers."""
    if layer == "norm":
        return {f"{place}.group_norm.{kind}": tensor}
    flat = tensor.flatten(1) if kind == "weight" else tensor
    if layer == "to_out":
        return {f"{place}.to_out.0.{kind}": flat}
    return {f"{place}.to_{which}.{kind}": part for which, part in zip("qkv", flat.chunk(3), strict=True)}
