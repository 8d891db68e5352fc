"""What the pixels of a data set are like, before any model has seen them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 4096  # images at once: a memory-mapped array must not be read as a whole


@dataclass(frozen=True)
class PixelStatistics:
    """Of all pixels of a set of images, channels together.

    Attributes:
        lowest: Smallest pixel, 0 to 255.
        highest: Largest pixel.
        mean: Mean pixel.
        deviation: Standard deviation of the pixels.
        white_share: Share of pixels that are 255.
        mean_phase: Direction of the mean of e^{i theta}, in radians, where theta is
            `phase_margin` pi x for the pixel x in [-1, 1], as the Kuramoto process encodes it.
        order: Length of that mean, the order parameter of all pixels: 1 where all are equal.
    """

    lowest: int
    highest: int
    mean: float
    deviation: float
    white_share: float
    mean_phase: float
    order: float


def pixel_statistics(images: NDArray[np.uint8], phase_margin: float = 0.9) -> PixelStatistics:
    """Statistics of (N, C, H, W) uint8 images, exact, from the histogram of their pixels."""
    counts = sum(
        (np.bincount(block.reshape(-1), minlength=256) for block in _blocks(images)),
        start=np.zeros(256, np.int64),
    )
    shares = counts / counts.sum()
    values = np.arange(256)
    mean = float(shares @ values)
    present = np.flatnonzero(counts)
    phases = phase_margin * math.pi * (values / 127.5 - 1)
    centre = complex(shares @ np.exp(1j * phases))
    return PixelStatistics(
        lowest=int(present[0]),
        highest=int(present[-1]),
        mean=mean,
        deviation=math.sqrt(float(shares @ (values - mean) ** 2)),
        white_share=float(shares[255]),
        mean_phase=math.atan2(centre.imag, centre.real),
        order=abs(centre),
    )


def _blocks(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for first in range(0, len(images), _BLOCK):
        yield images[first : first + _BLOCK]
