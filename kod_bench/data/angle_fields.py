"""Fields of angles made smaller and cut, without a pixel that lies between pi and -pi."""

import math

import numpy as np
from numpy.typing import NDArray

from kod_bench.data import portable
from kod_bench.data.files import AngleField, SkippedImageError

FloatArray = NDArray[np.float64]


def as_stored(angles: NDArray[np.floating]) -> AngleField:
    """Radians of any range as float32 in [-pi, pi)."""
    # In double precision: of an angle of many turns single precision keeps few digits.
    wrapped = np.remainder(np.asarray(angles, np.float64) + math.pi, 2 * math.pi) - math.pi
    single = wrapped.astype(np.float32)
    pi = np.float32(math.pi)
    return np.where(single >= pi, -pi, np.maximum(single, -pi))


def shrink(angles: NDArray[np.floating], factor: int) -> FloatArray:
    """Shrink by a whole factor: the direction of the mean e^{i theta} of each block, (H, W).

    Rows and columns beyond the last whole block are left out.
    """
    if factor == 1:
        return np.asarray(angles, np.float64)
    height, width = (side // factor for side in angles.shape)
    whole = np.asarray(angles[: height * factor, : width * factor], np.float64)
    blocks = whole.reshape(height, factor, width, factor)
    cosine, sine = (each(blocks).mean(axis=(1, 3)) for each in (portable.cos, portable.sin))
    return np.asarray(portable.arctan2(sine, cosine), np.float64)


def middle(angles: NDArray[np.floating], size: int) -> AngleField:
    """The middle square of a field, shrunk by a whole factor to the size that is asked for.

    Raises:
        SkippedImageError: The field is smaller.
    """
    factor = min(angles.shape) // size
    if not factor:
        height, width = angles.shape
        raise SkippedImageError(f"{width}x{height} sites, smaller than image_size {size}")
    top, left = ((side - factor * size) // 2 for side in angles.shape)
    square = angles[top : top + factor * size, left : left + factor * size]
    return as_stored(shrink(square, factor))


def cut(
    angles: NDArray[np.floating],
    size: int,
    coherence: NDArray[np.floating] | None = None,
    least: float = 0.0,
) -> NDArray[np.float32]:
    """Squares on a regular grid, half overlapping, centred: (N, size, size), as they are stored.

    Args:
        angles: (H, W) radians.
        size: Of a square.
        coherence: (H, W) how sure the angles are; None for all of them.
        least: Mean coherence of the squares that are kept.

    Raises:
        SkippedImageError: The field is smaller, or no square is kept.
    """
    height, width = angles.shape
    if min(height, width) < size:
        raise SkippedImageError(f"{width}x{height} sites, smaller than a patch")
    stride = max(1, size // 2)
    rows, columns = (
        range((side - size) % stride // 2, side - size + 1, stride) for side in (height, width)
    )
    found = [
        as_stored(angles[top : top + size, left : left + size])
        for top in rows
        for left in columns
        if coherence is None or coherence[top : top + size, left : left + size].mean() >= least
    ]
    if not found:
        raise SkippedImageError("no patch of enough coherence")
    return np.stack(found)
