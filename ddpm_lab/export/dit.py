"""dit as diffusers' DiTTransformer2DModel."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ddpm_lab.export.component import Component, Inexpressible
from registry.traits import Options

# DiTPipeline looks for "no class" in this row, however many classes there are.
NO_CLASS = 1000
BLOCK = {
    "modulation": "norm1.linear", "attention.to_out": "attn1.to_out.0", "perceptron.0": "ff.net.0.proj",
    "perceptron.2": "ff.net.2",
}  # fmt: skip
TOP = {"patches": "pos_embed.proj", "modulation": "proj_out_1", "head": "proj_out_2"}


def dit(state: Mapping[str, Tensor], options: Options, image_shape: tuple[int, int, int], classes: int | None) -> Component:
    """The network with these weights, as `options` of the experiment made it.

    Raises:
        Inexpressible: DiTTransformer2DModel has no such network.
    """
    channels, height, width = image_shape
    if height != width:
        raise Inexpressible("DiTTransformer2DModel takes square images only")
    if classes is not None and classes > NO_CLASS:
        raise Inexpressible(f"DiTPipeline takes row {NO_CLASS} of the class table for 'no class'; there are {classes} classes")
    config = {
        "num_attention_heads": options["heads"], "attention_head_dim": options["width"] // options["heads"],
        "in_channels": channels, "out_channels": len(state["head.weight"]) // options["patch"] ** 2,
        "num_layers": options["depth"], "sample_size": height, "patch_size": options["patch"],
        "num_embeds_ada_norm": NO_CLASS, "norm_type": "ada_norm_zero", "norm_eps": 1e-6,
        "activation_fn": "gelu-approximate", "attention_bias": True,
    }  # fmt: skip
    weights: dict[str, Tensor] = {}
    for name, tensor in state.items():
        place, _, kind = name.rpartition(".")
        if place in TOP:
            weights[f"{TOP[place]}.{kind}"] = tensor
        elif place.startswith("blocks."):
            _, number, layer = place.split(".", 2)
            there = f"transformer_blocks.{number}"
            if layer == "attention.to_qkv":
                parts = zip("qkv", tensor.chunk(3), strict=True)
                weights |= {f"{there}.attn1.to_{which}.{kind}": part for which, part in parts}
            else:
                weights[f"{there}.{BLOCK[layer]}.{kind}"] = tensor
    embedding = _embedding(state, classes, options["width"])
    # There each block embeds noise level and class for itself.
    for block in range(options["depth"]):
        weights |= {f"transformer_blocks.{block}.norm1.emb.{name}": tensor for name, tensor in embedding.items()}
    return Component("transformer", "DiTTransformer2DModel", config, weights)


def _embedding(state: Mapping[str, Tensor], classes: int | None, width: int) -> dict[str, Tensor]:
    first = state["embed_noise.layers.0.weight"]
    table = torch.zeros(NO_CLASS + 1, width)
    if classes is not None:
        table[:] = state["embed_class.weight"][-1]
        table[:classes] = state["embed_class.weight"][:-1]
    return {
        # There cosines come before sines.
        "timestep_embedder.linear_1.weight": first.roll(first.shape[1] // 2, dims=1),
        "timestep_embedder.linear_1.bias": state["embed_noise.layers.0.bias"],
        "timestep_embedder.linear_2.weight": state["embed_noise.layers.2.weight"],
        "timestep_embedder.linear_2.bias": state["embed_noise.layers.2.bias"],
        "class_embedder.embedding_table.weight": table,
    }
