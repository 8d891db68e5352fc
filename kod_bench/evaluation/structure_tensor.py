"""Orientation and coherence of the texture of images, from the structure tensor."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: Standard deviation, in pixels, of the Gaussian over which the tensor is averaged.
SMOOTHING = 1.5

#: Gradient in gray levels (of 255) per pixel below which a direction is rounding or noise.
NOISE_FLOOR = 2.0


def orientation_and_coherence(images: Tensor) -> tuple[Tensor, Tensor]:
    """Local orientation and coherence (Bigun and Granlund 1987).

    With g the gradient of the mean over channels (Scharr's 3 x 3 derivative, which turns with the
    image better than others of its size) and J the Gaussian average of ``g g^T``,

        orientation = 1/2 atan2(2 J_xy, J_xx - J_yy)  mod pi
        coherence   = sqrt((J_xx - J_yy)^2 + 4 J_xy^2) / (J_xx + J_yy + n^2)

    The orientation is that of the gradient, across the ridges. Coherence is 1 where all gradients
    around are parallel, 0 where they have no common direction, and small where there are hardly
    any: n is `NOISE_FLOOR`.

    Args:
        images: (N, C, H, W) uint8, at least 8 pixels a side.

    Returns:
        Orientation in [0, pi), radians, and coherence in [0, 1); each (N, H, W).
    """
    gray = images.float().mean(dim=1, keepdim=True)
    across = torch.tensor([-0.5, 0.0, 0.5], device=images.device)
    along = torch.tensor([3.0, 10.0, 3.0], device=images.device) / 16
    x = _filter(gray, along, across)
    y = _filter(gray, across, along)
    radius = math.ceil(2.5 * SMOOTHING)
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
    window = torch.exp(-0.5 * (offsets / SMOOTHING) ** 2)
    window /= window.sum()
    products = torch.cat([x * x, y * y, x * y])
    xx, yy, xy = _filter(products, window, window).chunk(3)
    double = torch.atan2(2 * xy, xx - yy)
    orientation = torch.remainder(double / 2, math.pi)
    strength = torch.hypot(xx - yy, 2 * xy)
    coherence = strength / (xx + yy + NOISE_FLOOR**2)
    # The remainder of a tiny negative number rounds to pi itself.
    orientation = torch.where(orientation >= math.pi, 0.0, orientation)
    return orientation[:, 0], coherence[:, 0]


def _filter(images: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Correlate (N, 1, H, W) with a separable kernel; borders are mirrored."""
    kernel = torch.outer(vertical, horizontal)[None, None]
    pad = (len(horizontal) // 2,) * 2 + (len(vertical) // 2,) * 2
    return F.conv2d(F.pad(images, pad, mode="reflect"), kernel)
