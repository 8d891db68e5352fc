"""Minutiae of ridge patterns: how many ridges end, and how many fork, on how large an area.

The classical way (Ratha, Chen and Jain 1995; Maltoni et al., Handbook of Fingerprint Recognition):

1. The mean over channels, smoothed (1 pixel) and less its local mean (4 pixels); ridges are dark.
2. Where that is negative, at twice the resolution, without specks and holes smaller than half a
   ridge: binary ridges.
3. Their skeleton (Zhang and Suen 1984), one pixel wide.
4. The crossing number of a skeleton's pixel (Rutovitz 1966), over its eight neighbours P in order:
   CN = 1/2 sum_i |P_i - P_{i+1}|. It is 1 where a ridge ends, and 3 where it forks.
5. Pairs nearer to each other than 3.5 pixels are spurs, broken ridges and bridges, no minutiae.

The border (4 pixels) and what has no contrast are left out, and with them their area. A ridge ends
where a valley forks: which of the two one sees is a matter of where the ridges lie, and their sum
is what is in the pattern. Noise has many; parallel ridges have none.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from torch import Tensor

from kod_bench.evaluation.structure_tensor import orientation_and_coherence
from kod_bench.evaluation.wasserstein import FloatArray

#: The smallest side of images whose minutiae are counted.
MIN_SIDE = 32

#: Densities are of so many pixels.
AREA = 1000.0

_ACROSS, _ALONG = 0.6, 2.0
_RADIUS = 6
_DIRECTIONS = 16
_LOCAL = 4.0
_FINER = 2  # times
_SPECK = 12  # pixels of the finer image
_NEAR = 3.5
_BORDER = 4
_EDGE = 7  # of a print, which contrast fades across
#: Standard deviation in gray levels, of 255, below which there are no ridges.
_CONTRAST = 10.0
#: Of an image, to be counted at all.
_LEAST_AREA = 0.25

_Points = NDArray[np.int64]


def minutia_densities(images: Tensor) -> tuple[FloatArray, FloatArray]:
    """Ridge endings and bifurcations per 1,000 pixels of each image.

    Args:
        images: (N, C, H, W) uint8, at least `MIN_SIDE` a side.

    Returns:
        (N,) of either; NaN for images of which a quarter or less has ridges.

    Raises:
        ValueError: if they are smaller.
    """
    height, width = images.shape[-2:]
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"images must have at least {MIN_SIDE} pixels a side, got {width}x{height}"
        )
    waves = _waves(images.cpu())
    seen = _inside(waves)
    area = seen.sum(axis=(1, 2)).astype(np.float64)
    area[area <= _LEAST_AREA * height * width] = np.nan

    counts = []
    endings, bifurcations = minutiae(_ridges(waves))
    lone = _lone(np.concatenate([endings, bifurcations]))
    for points, kept in (
        (endings, lone[: len(endings)]),
        (bifurcations, lone[len(endings) :]),
    ):
        image, row, column = points[kept].T
        inside = seen[image, row // _FINER, column // _FINER]
        counts.append(np.bincount(image[inside], minlength=len(images)) * AREA / area)
    return counts[0], counts[1]


def minutiae(ridges: NDArray[np.bool_]) -> tuple[_Points, _Points]:
    """Where skeletons of ridges end, and where they fork.

    Args:
        ridges: (N, H, W).

    Returns:
        (M, 3) image, row and column of each ending; the same of each fork, once.
    """
    from skimage import morphology

    thin: Callable[..., NDArray[np.bool_]] = morphology.skeletonize
    # One picture of all, with empty rows between: a skeleton for each would take most of the time.
    count, height, width = ridges.shape
    framed = np.zeros((count, height + 2, width + 2), dtype=bool)
    framed[:, 1:-1, 1:-1] = ridges
    skeleton = thin(framed.reshape(-1, width + 2)).reshape(framed.shape)
    around = [
        skeleton[:, 1 + down : height + 1 + down, 1 + right : width + 1 + right]
        for down, right in _NEIGHBOURS
    ]
    changes = sum(
        (one != two).astype(np.int8)
        for one, two in zip(around, [*around[1:], around[0]], strict=True)
    )
    crossing = np.where(skeleton[:, 1:-1, 1:-1], changes // 2, 0)
    forks, _ = ndimage.label(crossing >= 3, structure=_IN_ONE_IMAGE)
    _, first = np.unique(forks, return_index=True)
    chosen = first[forks.ravel()[first] > 0]  # of touching ones the first
    return np.argwhere(crossing == 1), np.stack(np.unravel_index(chosen, forks.shape), axis=1)


#: Around a pixel, one after another.
_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
_IN_ONE_IMAGE = np.zeros((3, 3, 3), dtype=bool)
_IN_ONE_IMAGE[1] = True


def _waves(images: Tensor) -> NDArray[np.float32]:
    """What ridges are in (N, C, H, W) images, smoothed along them: (N, H, W), dark ones below 0."""
    gray = images.float().mean(dim=1, keepdim=True)
    local = ndimage.gaussian_filter(gray.numpy(), (0, 0, _LOCAL, _LOCAL), mode="reflect")
    across, _ = orientation_and_coherence(images)
    nearest = (across * (_DIRECTIONS / math.pi)).round().long() % _DIRECTIONS
    padded = F.pad(gray - torch.from_numpy(local), (_RADIUS,) * 4, mode="reflect")
    ways = F.conv2d(padded, _kernels())
    found: NDArray[np.float32] = ways.gather(1, nearest.unsqueeze(1))[:, 0].numpy()
    return found


@functools.cache
def _kernels() -> Tensor:
    """Gaussians that are long across a gradient's direction, (D, 1, S, S), one for each."""
    places = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float32)
    down, right = torch.meshgrid(places, places, indexing="ij")
    angle = torch.arange(_DIRECTIONS).view(-1, 1, 1) * (math.pi / _DIRECTIONS)
    across = right * angle.cos() + down * angle.sin()
    along = down * angle.cos() - right * angle.sin()
    kernels = torch.exp(-0.5 * ((across / _ACROSS) ** 2 + (along / _ALONG) ** 2))
    return (kernels / kernels.sum(dim=(1, 2), keepdim=True)).unsqueeze(1)


def _inside(waves: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where there are ridges all around, (N, H, W)."""
    power = ndimage.gaussian_filter(np.square(waves), (0, _LOCAL, _LOCAL), mode="reflect")
    size = (1, 2 * _EDGE + 1, 2 * _EDGE + 1)
    seen = ndimage.minimum_filter(power > _CONTRAST**2, size=size, mode="constant", cval=1)
    inside: NDArray[np.bool_] = np.zeros_like(seen)
    middle = (slice(None), slice(_BORDER, -_BORDER), slice(_BORDER, -_BORDER))
    inside[middle] = seen[middle]
    return inside


def _ridges(waves: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Dark ridges at the finer resolution, cleaned; (N, H, W) -> (N, 2 H, 2 W)."""
    finer = F.interpolate(torch.from_numpy(waves)[:, None], scale_factor=_FINER, mode="bicubic")
    ridges: NDArray[np.bool_] = finer[:, 0].numpy() < 0
    for value in (True, False):  # specks, then holes
        labels, _ = ndimage.label(ridges == value, structure=_IN_ONE_IMAGE)
        small = np.bincount(labels.ravel()) < _SPECK
        small[0] = False
        ridges ^= small[labels]
    return ridges


def _lone(points: _Points) -> NDArray[np.bool_]:
    """Whether each of (M, 3) points has no other near it in its image."""
    found = np.ones(len(points), dtype=bool)
    apart = points * np.array([1 << 20, 1, 1])
    pairs = cKDTree(apart).query_pairs(_NEAR * _FINER, output_type="ndarray")
    found[pairs.ravel()] = False
    return found
