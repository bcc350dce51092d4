"""dit: the diffusion transformer with adaLN-Zero."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry.backbones import BACKBONES
from registry.backbones.attention import TokenAttention
from registry.backbones.blocks import recomputed, zero_init
from registry.backbones.embeddings import ClassEmbedding, NoiseEmbedding, Sinusoid
from registry.backbones.sizes import require_multiple, require_patches
from registry.backbones.tokens import Patches, Perceptron, to_image
from registry.options import Count
from registry.traits import Traits

FREQUENCIES = 256


def normalised(tokens: Tensor) -> Tensor:
    """Layer normalisation without parameters: the condition scales and shifts instead."""
    return F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6)


def modulated(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Scaled and shifted by the condition, which is [B, width]."""
    return torch.addcmul(shift[:, None], tokens, 1 + scale[:, None])


class DiTBlock(nn.Module):
    """Transformer block whose condition scales, shifts and gates; the identity at first (Peebles & Xie 2023, figure 3)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 6 * width)
        self.attention = TokenAttention(width, heads, bias=True)
        self.perceptron = Perceptron(width, approximate="tanh")

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=1)  # [B, width] each
        tokens = tokens + gate1[:, None] * self.attention(modulated(normalised(tokens), shift1, scale1))
        return tokens + gate2[:, None] * self.perceptron(modulated(normalised(tokens), shift2, scale2))  # type: ignore[no-any-return]


@BACKBONES.register("dit", Traits(diffusers="DiTTransformer2DModel", trial={"width": 16, "depth": 2, "heads": 2}))
class DiT(nn.Module):
    """The diffusion transformer, with adaLN-Zero (Peebles & Xie 2023, section 3.2), on the pixels themselves.

    A token is a `patch` x `patch` square. S, B, L and XL of the paper are (width, depth, heads) = (384, 12, 6), (768, 12, 12),
    (1024, 24, 16) and (1152, 28, 16).
    """

    position: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int | None,
        channels_out: int,
        *,
        width: Count = 192,
        depth: Count = 6,
        heads: Count = 3,
        patch: Count = 2,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        require_patches("dit", image_shape, patch)
        require_multiple("dit", "width", width, 4)
        require_multiple("dit", "width, divided among heads,", width, heads)
        channels, self.height, columns = image_shape
        self.patch, self.recompute = patch, activation_checkpointing
        self.patches = Patches(channels, width, patch)
        self.register_buffer("position", grid_embedding(self.height // patch, columns // patch, width), persistent=False)
        self.embed_noise = NoiseEmbedding(FREQUENCIES, width, closed=True)
        self.embed_class = ClassEmbedding(classes, width) if classes else None
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))
        self.modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, patch * patch * channels_out)
        self._initialise()

    def forward(self, x: Tensor, label: Tensor, y: Tensor | None = None) -> Tensor:
        condition = self.embed_noise(label)
        if self.embed_class is not None:
            condition = condition + self.embed_class(y)
        condition = F.silu(condition)
        tokens = self.patches(x) + self.position  # [B, tokens, width]
        for block in self.blocks:
            tokens = recomputed(self.recompute, block, tokens, condition)
        shift, scale = self.modulation(condition).chunk(2, dim=1)
        return to_image(self.head(modulated(normalised(tokens), shift, scale)), self.patch, self.height)

    def _initialise(self) -> None:
        """As published: modulation and head zero, the embeddings of noise level and class N(0, 0.02), the rest Xavier."""
        for name, module in self.named_modules():
            if name == "head" or name.endswith("modulation"):
                zero_init(cast(nn.Linear, module))
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patches.weight.flatten(1))
        nn.init.zeros_(cast(Tensor, self.patches.bias))
        for module in self.embed_noise.layers:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
        if self.embed_class is not None:
            nn.init.normal_(self.embed_class.weight[:-1].detach(), std=0.02)


def grid_embedding(rows: int, columns: int, width: int) -> Tensor:
    """Sinusoids of each patch's place, half the width for its column, half for its row: [rows columns, width] (section 3.2)."""
    half = Sinusoid(width // 2)
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.cat([half(column.flatten()), half(row.flatten())], dim=1)
