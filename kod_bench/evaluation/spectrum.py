"""How the variance of images is spread over spatial frequency."""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kod_bench.evaluation.wasserstein import FloatArray

#: Highest frequency that is looked at, cycles per pixel: the Nyquist frequency along an axis.
HIGHEST = 0.5


def radial_spectrum(images: Tensor) -> FloatArray:
    """Energy per interval of |f|, added up over images that each have one unit of it.

    The mean over channels, less its own mean, under a Hann window (so that opposite borders, which
    do not continue each other, leave no trace), gives the power P(f). The bin of frequency |f|
    takes the sum of P over its ring, that is the radial average times the ring's length: the share
    of the image's variance at that frequency, whatever its direction and whatever its contrast.

    Args:
        images: (N, C, H, W) uint8.

    Returns:
        (min(H, W) // 2,) from 0 to `HIGHEST`. Blank images add nothing.
    """
    height, width = images.shape[-2:]
    bins = min(height, width) // 2
    gray = images.double().mean(dim=1)
    window = torch.outer(
        torch.hann_window(height, periodic=False, dtype=torch.float64),
        torch.hann_window(width, periodic=False, dtype=torch.float64),
    )
    power = torch.fft.fft2((gray - gray.mean(dim=(1, 2), keepdim=True)) * window).abs().square()
    total = power.sum(dim=(1, 2), keepdim=True)
    shares = torch.where(total > 0, power / total.clamp(min=1e-12), 0.0).sum(dim=0)
    ring = np.minimum(rings(height, width), bins)  # the corners apart
    sums = np.bincount(ring.ravel(), shares.numpy().ravel(), minlength=bins + 1)
    return np.asarray(sums[:bins], np.float64)


@cache
def rings(height: int, width: int) -> NDArray[np.int64]:
    """The ring of each frequency of a discrete Fourier transform, (height, width).

    Ring r holds r <= |f| / step < r + 1 with a step of `HIGHEST` over min(H, W) // 2. By whole
    numbers, since frequencies lie exactly on the edges, where rounding decides either way:

        r = floor( sqrt( floor( 4 b^2 (i^2 W^2 + j^2 H^2) / (H W)^2 ) ) ),   b = min(H, W) // 2
    """
    bins, common = min(height, width) // 2, math.gcd(height, width)
    tall, wide = height // common, width // common
    largest = 4 * bins**2 * (common * tall * wide) ** 2
    kind: Any = np.int64 if largest < 2**62 else object  # Python's own have no end
    down, across = (
        np.minimum(np.arange(side), side - np.arange(side)).astype(kind) for side in (height, width)
    )
    squares = (down * wide)[:, None] ** 2 + (across * tall) ** 2
    whole = 4 * bins**2 * squares // (common * tall * wide) ** 2
    # Exact: the square root of a whole number below 2^52 is not rounded across a whole number.
    return np.asarray(np.sqrt(whole.astype(np.int64)), np.int64)
