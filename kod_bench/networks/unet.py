"""The U-Net that every compared model shares.

Residual blocks with time embedding, after Ho et al. 2020 (arXiv 2006.11239, appendix B) and
Dhariwal & Nichol 2021 (arXiv 2105.05233, section 3): the processes differ, the network does not.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: What a convolution sees beyond the edge: nothing, or what is across it on a sphere or a torus.
Padding = Literal["zeros", "sphere", "torus"]


def pad_sphere(x: Tensor) -> Tensor:
    """Surround a map of the sphere by one pixel of what is across its edges.

    Longitude is circular. Across a pole lies the same row, half the way around: a scalar function
    has f(-theta, phi) = f(theta, phi + pi), and keeps its sign.

    Args:
        x: (B, C, H, W), rows of equal latitude from pole to pole; W even.

    Returns:
        (B, C, H + 2, W + 2).
    """
    half = x.shape[-1] // 2
    north, south = x[:, :, :1].roll(half, dims=-1), x[:, :, -1:].roll(half, dims=-1)
    return F.pad(torch.cat([north, x, south], dim=2), (1, 1, 0, 0), mode="circular")


def pad_torus(x: Tensor) -> Tensor:
    """Surround a field in a periodic box by what is across its edges: (B, C, H + 2, W + 2)."""
    return F.pad(x, (1, 1, 1, 1), mode="circular")


_PADS: dict[Padding, Callable[[Tensor], Tensor]] = {"sphere": pad_sphere, "torus": pad_torus}


class Convolution(nn.Conv2d):
    """A 3x3 convolution that keeps the size, or halves it with `stride` 2."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, padding: Padding) -> None:
        super().__init__(inputs, outputs, 3, stride=stride, padding=int(padding == "zeros"))
        self.pad = _PADS.get(padding)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        return super().forward(x if self.pad is None else self.pad(x))


def timestep_embedding(step: Tensor, dimension: int) -> Tensor:
    """Sinusoidal embedding of the step.

    ``e_j = cos(t w_j), e_{j + d/2} = sin(t w_j), w_j = 10000^{-2j/d}`` (Vaswani et al. 2017).

    Args:
        step: (B,) steps, in network units (see `UNet`).
        dimension: d, even.

    Returns:
        (B, d) float32.
    """
    half = dimension // 2
    exponent = torch.arange(half, dtype=torch.float32, device=step.device) / half
    angle = step.float()[:, None] * torch.exp(-math.log(10_000.0) * exponent)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def _norm(channels: int) -> nn.GroupNorm:
    # Groups of at least four channels: a narrow network must not normalise every channel alone.
    return nn.GroupNorm(math.gcd(32, channels, max(1, channels // 4)), channels)


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """Start a residual branch, or the output, at zero: the network begins as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice; the embedding scales and shifts in between."""

    def __init__(
        self, inputs: int, outputs: int, embedding: int, dropout: float, padding: Padding
    ) -> None:
        super().__init__()
        self.norm1 = _norm(inputs)
        self.conv1 = Convolution(inputs, outputs, padding=padding)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.norm2 = _norm(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = _zeroed(Convolution(outputs, outputs, padding=padding))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, inputs, H, W) and (B, embedding) -> (B, outputs, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(self.norm2(h) * (1 + scale) + shift)
        out: Tensor = self.skip(x) + self.conv2(self.dropout(h))
        return out


class SelfAttention(nn.Module):
    """Multi-head self-attention over the pixels of one feature map."""

    def __init__(self, channels: int, head_width: int = 32) -> None:
        super().__init__()
        # Heads about as wide as asked: as many as divide the channels.
        self.heads = math.gcd(channels, max(1, channels // head_width))
        self.norm = _norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.projection = _zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, 3, self.heads, channels // self.heads, -1)
        q, k, v = qkv.transpose(-1, -2).unbind(1)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        out: Tensor = x + self.projection(attended.reshape(batch, channels, height, width))
        return out


class Downsample(Convolution):
    """Halve the resolution with a strided convolution."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__(channels, channels, stride=2, padding=padding)


class Upsample(Convolution):
    """Double the resolution: nearest neighbour, then a convolution."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__(channels, channels, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module):
    """A time-conditioned U-Net from `in_channels` to `out_channels` planes.

    Args:
        in_channels: planes of the input.
        out_channels: planes of the output.
        image_size: height of the input, pixels; divisible by 2^(levels - 1), as its width must be.
        steps: T. The step is embedded as 1000 t / T, so that networks of processes with
            different T see the same range of embeddings.
        width: channels at full resolution.
        multipliers: channels per level, in units of `width`; one level per entry.
        blocks: residual blocks per level on the way down (one more on the way up).
        attention: resolutions (pixels) at which the blocks are followed by self-attention.
        dropout: probability inside the residual blocks.
        padding: of the convolutions: "zeros"; "sphere" for maps in latitude and longitude; or
            "torus" for fields in a periodic box.

    Raises:
        ValueError: if a size is not positive, `image_size` cannot be halved often enough, or
            attention is asked for at a resolution that no level has.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        image_size: int,
        steps: int,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 2,
        attention: Sequence[int] = (),
        dropout: float = 0.0,
        padding: Padding = "zeros",
    ) -> None:
        super().__init__()
        if width < 2 or width % 2 or blocks < 1 or not multipliers or min(multipliers) < 1:
            raise ValueError(
                f"width must be even and positive, blocks and multipliers positive; got "
                f"width {width}, blocks {blocks}, multipliers {list(multipliers)}"
            )
        reduction = 2 ** (len(multipliers) - 1)
        if image_size % reduction:
            raise ValueError(
                f"{len(multipliers)} levels halve the image {len(multipliers) - 1} times: "
                f"image_size must be divisible by {reduction}, got {image_size}"
            )
        resolutions = [image_size // 2**level for level in range(len(multipliers))]
        if unknown := sorted(set(attention) - set(resolutions)):
            raise ValueError(
                f"attention names resolutions {unknown}; the levels of this network have "
                f"{resolutions}"
            )
        self.steps = steps
        self.width = width
        embedding = 4 * width
        self.embed = nn.Sequential(
            nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.stem = Convolution(in_channels, width, padding=padding)
        block = partial(ResidualBlock, embedding=embedding, dropout=dropout, padding=padding)

        def stage(inputs: int, outputs: int, resolution: int) -> nn.ModuleList:
            layers: list[nn.Module] = [block(inputs, outputs)]
            if resolution in attention:
                layers.append(SelfAttention(outputs))
            return nn.ModuleList(layers)

        channels, resolution = width, image_size
        skips = [channels]
        self.down = nn.ModuleList()
        for level, multiplier in enumerate(multipliers):
            if level:
                self.down.append(nn.ModuleList([Downsample(channels, padding)]))
                resolution //= 2
                skips.append(channels)
            for _ in range(blocks):
                self.down.append(stage(channels, multiplier * width, resolution))
                channels = multiplier * width
                skips.append(channels)
        self.middle = nn.ModuleList(
            [
                block(channels, channels),
                *([SelfAttention(channels)] if attention else []),
                block(channels, channels),
            ]
        )
        self.up = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for _ in range(blocks + 1):
                self.up.append(stage(channels + skips.pop(), multiplier * width, resolution))
                channels = multiplier * width
            if level:
                self.up.append(nn.ModuleList([Upsample(channels, padding)]))
                resolution *= 2
        self.norm = _norm(channels)
        self.head = _zeroed(Convolution(channels, out_channels, padding=padding))

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """(B, in_channels, H, W) and (B,) steps in 1..T -> (B, out_channels, H, W)."""
        embedding = self.embed(timestep_embedding(step * (1000.0 / self.steps), self.width))
        h = self.stem(x)
        skips = [h]
        for layers in self.down:
            h = _apply(layers, h, embedding)
            skips.append(h)
        h = _apply(self.middle, h, embedding)
        for layers in self.up:
            if not isinstance(layers[0], Upsample):  # type: ignore[index]
                h = torch.cat([h, skips.pop()], dim=1)
            h = _apply(layers, h, embedding)
        out: Tensor = self.head(F.silu(self.norm(h)))
        return out


def _apply(layers: Any, h: Tensor, embedding: Tensor) -> Tensor:
    for layer in layers:
        h = layer(h, embedding) if isinstance(layer, ResidualBlock) else layer(h)
    return h
