"""The vision transformer of DINOv2, with the names that its published weights have."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """Sizes of a vision transformer.

    Attributes:
        width: of a token.
        depth: blocks.
        heads: of attention.
        patch: pixels of a patch's side.
        trained_side: pixels of the images whose patches have an embedding of their place.
    """

    width: int
    depth: int
    heads: int
    patch: int = 14
    trained_side: int = 518


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        qkv = self.qkv(x).view(batch, count, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        out: Tensor = self.proj(attended.reshape(batch, count, width))
        return out


class _Scale(nn.Module):
    """LayerScale: a factor for each channel of a residual branch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class _Perceptron(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, heads)
        self.ls1 = _Scale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _Perceptron(width)
        self.ls2 = _Scale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


class _Patches(nn.Module):
    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, layout.width, layout.patch, stride=layout.patch)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return out


class VisionTransformer(nn.Module):
    """ViT with LayerScale and a class token (arXiv 2010.11929, 2304.07193).

    Args:
        layout: its sizes.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.side = layout.trained_side // layout.patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, layout.width))
        # Of masked patches, which only training has; the published files hold it.
        self.mask_token = nn.Parameter(torch.zeros(1, layout.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.side**2, layout.width))
        self.patch_embed = _Patches(layout)
        self.blocks = nn.ModuleList(_Block(layout.width, layout.heads) for _ in range(layout.depth))
        self.norm = nn.LayerNorm(layout.width, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S), S a multiple of the patch -> (B, width): the class token, normalised."""
        x = self.patch_embed(images)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = x + self._places(images.shape[-1] // self.layout.patch)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)[:, 0]
        return out

    def _places(self, side: int) -> Tensor:
        """Embeddings of a grid of another size, as the authors resample them."""
        if side == self.side:
            return self.pos_embed
        own, grid = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        planes = grid.reshape(1, self.side, self.side, -1).permute(0, 3, 1, 2)
        # Theirs adds 0.1 to the number of patches lest rounding loses one, and samples by it.
        scale = (side + 0.1) / self.side
        planes = F.interpolate(planes, scale_factor=(scale, scale), mode="bicubic")
        return torch.cat([own, planes.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
