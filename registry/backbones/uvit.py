"""uvit: a vision transformer with the long skip connections of a U-Net."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from registry.backbones import BACKBONES
from registry.backbones.attention import TokenAttention
from registry.backbones.blocks import recomputed
from registry.backbones.embeddings import ClassEmbedding, NoiseToken
from registry.backbones.sizes import require_multiple, require_patches
from registry.backbones.tokens import Patches, Perceptron, to_image
from registry.errors import BadInput
from registry.options import Count
from registry.traits import Traits


class TransformerBlock(nn.Module):
    """Pre-norm transformer block (Dosovitskiy et al. 2021, eq. 2 and 3)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = TokenAttention(width, heads, bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.perceptron = Perceptron(width, approximate="none")

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.perceptron(self.norm2(tokens))  # type: ignore[no-any-return]


@BACKBONES.register("uvit", Traits(trial={"width": 16, "depth": 3, "heads": 2}))
class UViT(nn.Module):
    """U-ViT (Bao et al. 2023, figure 1): noise level, class and patches are all tokens; long skips join shallow to deep blocks.

    `depth` counts all blocks and is odd: as many before the middle one as after it. The paper's S/2 for CIFAR-10 has
    (width, depth, heads) = (512, 13, 8), its M/4 for ImageNet 64 (768, 17, 12); it counts the middle block separately.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int | None,
        channels_out: int,
        *,
        width: Count = 192,
        depth: Count = 7,
        heads: Count = 3,
        patch: Count = 2,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        require_patches("uvit", image_shape, patch)
        require_multiple("uvit", "width", width, 2)
        require_multiple("uvit", "width, divided among heads,", width, heads)
        if depth % 2 == 0:
            raise BadInput(f"uvit: depth = {depth} has no middle block; take {depth - 1} or {depth + 1}")
        channels, self.height, columns = image_shape
        self.patch, self.recompute = patch, activation_checkpointing
        self.extras = 2 if classes else 1  # tokens that are not patches
        self.patches = Patches(channels, width, patch)
        self.embed_noise = NoiseToken(width)
        self.embed_class = ClassEmbedding(classes, width) if classes else None
        tokens = self.extras + (self.height // patch) * (columns // patch)
        self.position = nn.Parameter(torch.empty(1, tokens, width))
        self.shallow = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth // 2))
        self.middle = TransformerBlock(width, heads)
        self.joins = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth // 2))
        self.deep = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth // 2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, patch * patch * channels_out)
        self.smooth = nn.Conv2d(channels_out, channels_out, 3, padding=1)  # over the seams between patches
        nn.init.trunc_normal_(self.position, std=0.02)
        self.apply(_initialise)

    def forward(self, x: Tensor, label: Tensor, y: Tensor | None = None) -> Tensor:
        tokens = [self.embed_noise(label)[:, None].to(x.dtype)]
        if self.embed_class is not None:
            tokens.append(self.embed_class(y)[:, None].expand(len(x), -1, -1))
        h = torch.cat([*tokens, self.patches(x)], dim=1) + self.position  # [B, extras + patches, width]
        skips = []
        for block in self.shallow:
            h = recomputed(self.recompute, block, h)
            skips.append(h)
        h = recomputed(self.recompute, self.middle, h)
        for join, block in zip(self.joins, self.deep, strict=True):
            h = recomputed(self.recompute, block, join(torch.cat([h, skips.pop()], dim=2)))
        return self.smooth(to_image(self.head(self.norm(h))[:, self.extras :], self.patch, self.height))  # type: ignore[no-any-return]


def _initialise(module: nn.Module) -> None:
    """As published: truncated N(0, 0.02) for the linear layers."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
