"""The two U-Nets of the released Kuramoto code, as backbones: `released-32` and `released-96`.

Our own code for the networks of arXiv 2509.15328's repository: the same layers, and as many
parameters. Under the `periodic` variant `released-32` has 23,334,662 with three channels and
`released-96` 28,813,186 with one. The sinusoidal embedding has its cosines first, theirs last,
which a linear layer cannot tell.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kod_bench.networks.unet import timestep_embedding

EMBEDDING = 256
HEADS = 4


@dataclass(frozen=True)
class ReleasedLayout:
    """Channels of a released U-Net, from full resolution down.

    Attributes:
        down: after the stem and after each halving.
        bottom: of the three double convolutions at the lowest resolution.
        up: after each doubling.
        attention_from: halvings of the resolution from which on stages end in self-attention.
    """

    down: tuple[int, ...]
    bottom: tuple[int, ...]
    up: tuple[int, ...]
    attention_from: int


RELEASED = {
    "released-32": ReleasedLayout(
        down=(64, 128, 256, 256), bottom=(512, 512, 256), up=(128, 64, 64), attention_from=0
    ),
    "released-96": ReleasedLayout(
        down=(64, 128, 256, 256, 256),
        bottom=(512, 512, 256),
        up=(128, 64, 64, 64),
        attention_from=2,
    ),
}


class DoubleConv(nn.Module):
    """3x3 convolution without bias and GroupNorm with one group, twice, with GELU in between.

    With `residual` the input is added and a GELU taken of the sum.
    """

    def __init__(
        self, inputs: int, outputs: int, middle: int | None = None, *, residual: bool = False
    ) -> None:
        super().__init__()
        middle = outputs if middle is None else middle
        self.residual = residual
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, middle, 3, padding=1, bias=False),
            nn.GroupNorm(1, middle),
            nn.GELU(),
            nn.Conv2d(middle, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(1, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        out: Tensor = self.layers(x)
        return F.gelu(x + out) if self.residual else out


class TransformerBlock(nn.Module):
    """Self-attention over all pixels, then a feed-forward of equal width, each with a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, HEADS, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, channels),
            nn.GELU(),
            nn.Linear(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        tokens = x.flatten(2).transpose(1, 2)
        normed = self.norm(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        tokens = tokens + self.feed_forward(tokens)
        out: Tensor = tokens.transpose(1, 2).reshape(x.shape)
        return out


class Stage(nn.Module):
    """A residual double convolution, one that changes the channels, the embedding, attention."""

    def __init__(
        self, inputs: int, outputs: int, middle: int | None = None, *, attention: bool
    ) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            DoubleConv(inputs, inputs, residual=True), DoubleConv(inputs, outputs, middle)
        )
        self.shift = nn.Sequential(nn.SiLU(), nn.Linear(EMBEDDING, outputs))
        self.attention = TransformerBlock(outputs) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, inputs, H, W) and (B, EMBEDDING) -> (B, outputs, H, W)."""
        h = self.convolutions(x) + self.shift(embedding)[:, :, None, None]
        out: Tensor = self.attention(h)
        return out


class ReleasedUNet(nn.Module):
    """A released U-Net from `in_channels` to `out_channels` planes.

    Halves by max-pooling, doubles bilinearly with aligned corners. It embeds the integer t itself,
    not t / T, so what it has learnt holds for one T. Unlike `UNet` it starts with PyTorch's default
    weights: an untrained network answers with noise of its own instead of zero, and the first
    losses lie above 1.

    Args:
        in_channels: planes of the input.
        out_channels: planes of the output.
        image_size: side of the square input, pixels; divisible by 8 (`released-32`) or 16.
        layout: one of `RELEASED`.

    Raises:
        ValueError: if `image_size` cannot be halved often enough.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, image_size: int, layout: ReleasedLayout
    ) -> None:
        super().__init__()
        halvings = len(layout.down) - 1
        if image_size < 1 or image_size % 2**halvings:
            raise ValueError(
                f"this architecture halves the image {halvings} times: image_size must be "
                f"divisible by {2**halvings}, got {image_size}"
            )
        self.stem = DoubleConv(in_channels, layout.down[0])
        self.down = nn.ModuleList(
            Stage(inputs, outputs, attention=depth >= layout.attention_from)
            for depth, (inputs, outputs) in enumerate(pairwise(layout.down), start=1)
        )
        bottom = (layout.down[-1], *layout.bottom)
        self.bottom = nn.Sequential(*(DoubleConv(a, b) for a, b in pairwise(bottom)))
        self.up = nn.ModuleList()
        channels = bottom[-1]
        for depth, outputs in zip(range(halvings - 1, -1, -1), layout.up, strict=True):
            joined = channels + layout.down[depth]
            self.up.append(
                Stage(joined, outputs, joined // 2, attention=depth >= layout.attention_from)
            )
            channels = outputs
        self.head = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """(B, in_channels, H, W) and (B,) steps in 1..T -> (B, out_channels, H, W)."""
        embedding = timestep_embedding(step, EMBEDDING)
        h = self.stem(x)
        skips = []
        for stage in self.down:
            skips.append(h)
            h = stage(F.max_pool2d(h, 2), embedding)
        h = self.bottom(h)
        for stage in self.up:
            h = F.interpolate(h, scale_factor=2.0, mode="bilinear", align_corners=True)
            h = stage(torch.cat([skips.pop(), h], dim=1), embedding)
        out: Tensor = self.head(h)
        return out
