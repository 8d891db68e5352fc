r"""Pictures of maps of the sphere in the Mollweide projection, which keeps areas.

With longitude lambda from the middle and latitude phi, on an ellipse of half axes 2 sqrt 2 and
sqrt 2:

    x = (2 sqrt 2 / pi) lambda cos t,   y = sqrt 2 sin t,   2 t + sin 2 t = pi sin phi
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kod_bench.atomic import atomic_write
from kod_bench.data.sphere_maps import interpolate
from kod_bench.diffusion.spherical_harmonics import sphere_grid
from kod_bench.evaluation.wasserstein import FloatArray

IMAGES = 16
_COLUMNS = 4
_HEIGHT = 120  # pixels of one map, which is twice as wide
_GAP = 8


def write_mollweide(path: Path, images: Tensor) -> None:
    """Write a PNG with the first `IMAGES` maps on white.

    Args:
        path: of the PNG.
        images: (N, C, L, 2 L) uint8, on a Gauss-Legendre grid, north on top.

    Raises:
        OSError: if it cannot be written.
    """
    maps = [project(each, _HEIGHT) for each in images[:IMAGES]]
    columns = min(_COLUMNS, len(maps))
    width, height = 2 * _HEIGHT + _GAP, _HEIGHT + _GAP
    size = (columns * width + _GAP, math.ceil(len(maps) / columns) * height + _GAP)
    sheet = Image.new("RGB", size, "white")
    for index, each in enumerate(maps):
        row, column = divmod(index, columns)
        sheet.paste(Image.fromarray(each), (_GAP + column * width, _GAP + row * height))
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")


def project(image: Tensor, height: int) -> NDArray[np.uint8]:
    """One map, (C, L, 2 L) uint8 => (height, 2 height, 3); white beside the ellipse.

    The left edge of the map is the left edge of the ellipse.
    """
    values: FloatArray = image.double().mean(dim=0).numpy()
    degrees, longitudes = values.shape
    colatitude, longitude, inside = _inverse(height)
    nodes = sphere_grid(degrees).colatitudes.numpy()
    over_poles = np.concatenate([[-nodes[0]], nodes, [2 * math.pi - nodes[-1]]])
    row = np.interp(colatitude, over_poles, np.arange(-1, degrees + 1))
    found = interpolate(values, row, longitude * (longitudes / (2 * math.pi)))
    gray = np.where(inside, np.clip(np.rint(found), 0, 255), 255).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)


def _inverse(height: int) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Colatitude and longitude from the left edge at each pixel, and whether it is on the map."""
    y = 1 - 2 * (np.arange(height) + 0.5) / height  # sin t, north on top
    x = 2 * (np.arange(2 * height) + 0.5) / (2 * height) - 1  # of the half axis
    across = np.sqrt(1 - y**2)[:, None]  # cos t
    t = np.arcsin(y)
    latitude = np.arcsin(np.clip((2 * t + np.sin(2 * t)) / math.pi, -1, 1))
    colatitude = np.broadcast_to(math.pi / 2 - latitude[:, None], (height, 2 * height))
    longitude = math.pi * (1 + np.clip(x / across, -1, 1))
    return colatitude, longitude, np.abs(x) <= across
