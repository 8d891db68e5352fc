"""Maps of the sphere from a user's `.npy` files, and between the pixels of any map.

A file holds one map: a two-dimensional array of numbers, rows from the north pole to the south
pole, columns once around, equal angles from cell to cell, values at the middle of the cells. The
lowest value of all files becomes 0 and the highest one 255.
"""

import math
import os
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kod_bench.data import files
from kod_bench.data.errors import DataError
from kod_bench.data.files import MAX_PIXELS, MIN_SIDE, SkippedImageError
from kod_bench.data.hash_index import hash_files
from kod_bench.data.notes import counted_note
from kod_bench.data.options import DatasetOptions
from kod_bench.data.spec import SourceImage

FloatArray = NDArray[np.float64]

SUFFIX = ".npy"
_READ_AT_ONCE = 8
_LARGEST = 1e100  # a float's own limit would not survive a difference of two


class MapFolderSource:
    """The `.npy` files below a folder, one unit each.

    Raises:
        DataError: The folder is missing, is no folder, cannot be read, or holds no such file.
    """

    parallel = False  # a few array operations each; and `unpack` has seen them all
    split_rule = ""

    def __init__(self, options: DatasetOptions, folder: Path, cache_dir: Path) -> None:
        self.name = options.name
        self.title = f"data folder {folder}"
        self._rows = options.image_size
        self._folder = folder
        names, unreadable = _find_maps(folder, self.title)
        self._files = hash_files(folder, names, cache_dir, _READ_AT_ONCE)
        self._lowest, self._highest = math.inf, -math.inf
        self.units = len(names)
        self.notes = counted_note(
            "skipped", "unreadable folder", [files.printable(n) for n in unreadable]
        )

    def identity(self) -> dict[str, object]:
        """Names and contents: other files may have other extremes, and change every map."""
        return {"files": [[file.name, file.size, file.digest] for file in self._files]}

    def unpack(self, folder: Path) -> None:
        """Find the lowest and the highest value of all maps that can be used."""
        del folder
        for file in self._files:
            try:
                values = read_map(self._folder / file.name)
            except SkippedImageError:
                continue
            self._lowest = min(self._lowest, float(values.min()))
            self._highest = max(self._highest, float(values.max()))

    def read(self, unit: int) -> Iterable[SourceImage]:
        """The map of one file, on the Gauss-Legendre grid."""
        name = self._files[unit].name
        try:
            values = read_map(self._folder / name)
        except SkippedImageError as error:
            return [SourceImage(name, reason=str(error))]
        spread = self._highest - self._lowest
        shares = (values - self._lowest) / spread if spread else np.zeros_like(values)
        gray = np.rint(255 * to_gauss_legendre(shares, self._rows)).astype(np.uint8)
        return [SourceImage(name, gray)]


def read_map(path: Path) -> FloatArray:
    """(latitudes, longitudes) of a `.npy` file. Nothing in it is ever unpickled.

    Raises:
        SkippedImageError: it is no such file, or its shape, type or values are not allowed.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would wait for ever
            raise SkippedImageError("not a regular file")
        # Maps the file: shape and type are known before a value is read, and objects are refused.
        array = np.lib.format.open_memmap(path, mode="r")
    except SkippedImageError:
        raise
    except OSError as error:
        raise SkippedImageError(error.strerror or "cannot be read") from None
    except Exception as error:  # NumPy's reader meets damaged headers with many kinds
        if "Python objects" in str(error):
            raise SkippedImageError("pickled Python objects; needs numbers") from None
        raise SkippedImageError("no NumPy array, or cut short") from None
    if array.dtype.kind not in "biuf":
        raise SkippedImageError(f"values of type {array.dtype}; needs real numbers")
    if array.ndim != 2 or min(array.shape) < MIN_SIDE or array.size > MAX_PIXELS:
        raise SkippedImageError(
            f"shape {tuple(array.shape)}; needs (latitudes, longitudes), each at least {MIN_SIDE}, "
            f"together at most {MAX_PIXELS // 1_000_000} million"
        )
    values = np.asarray(array, np.float64)
    if not (np.abs(values) < _LARGEST).all():
        raise SkippedImageError("a value that is NaN, infinite or beyond 1e100")
    return values


def to_gauss_legendre(cells: FloatArray, rows: int) -> FloatArray:
    """A map on equal-angle cells => the same on the Gauss-Legendre grid, (L, 2 L), bilinearly.

    Where it has more than twice as many cells as needed, they are averaged first, so that nothing
    aliases.

    Args:
        cells: (latitudes, longitudes), at the middle of the cells.
        rows: L.
    """
    from kod_bench.diffusion.spherical_harmonics import sphere_grid

    height, width = min(cells.shape[0], 2 * rows), min(cells.shape[1], 4 * rows)
    if (height, width) != cells.shape:
        shrunk = Image.fromarray(cells.astype(np.float32))
        shrunk = shrunk.resize((width, height), Image.Resampling.BOX)
        cells = np.asarray(shrunk, np.float64)
    grid = sphere_grid(rows)
    row = grid.colatitudes.numpy() * (height / math.pi) - 0.5
    column = grid.longitudes.numpy() * (width / (2 * math.pi)) - 0.5
    return interpolate(cells, row[:, None], column[None])


def interpolate(values: FloatArray, row: FloatArray, column: FloatArray) -> FloatArray:
    """A map between its pixels, bilinearly: around in longitude, and over the poles.

    Args:
        values: (H, W) of the whole sphere, any latitudes.
        row: positions between -1 and H: beyond the first row is the first one half way around.
        column: positions, of the same shape or one that goes with it; W columns are once around.
    """
    height, width = values.shape
    # Half way around is between two columns where their number is odd.
    ends = values[[0, -1]]
    over = (np.roll(ends, width // 2, axis=1) + np.roll(ends, (width + 1) // 2, axis=1)) / 2
    padded = np.vstack([over[:1], values, over[1:]])
    above = np.clip(np.floor(row).astype(np.int64) + 1, 0, height)
    left = np.floor(column).astype(np.int64)
    down, right = row + 1 - above, column - left
    left, after = left % width, (left + 1) % width
    upper = (1 - right) * padded[above, left] + right * padded[above, after]
    lower = (1 - right) * padded[above + 1, left] + right * padded[above + 1, after]
    return np.asarray((1 - down) * upper + down * lower, np.float64)


def _find_maps(root: Path, title: str) -> tuple[list[str], list[str]]:
    """Sorted names of the `.npy` files below a folder, and of subfolders that cannot be read."""
    try:
        with os.scandir(root):
            pass
    except OSError as error:
        raise DataError(
            f"{title} cannot be read ({error.strerror}); name a folder of {SUFFIX} files"
        ) from None
    unreadable: list[str] = []
    names = [
        PurePosixPath(Path(folder, name).relative_to(root)).as_posix()
        for folder, found in files.walk_once(root, lambda error: unreadable.append(error.filename))
        for name in found
        if name.lower().endswith(SUFFIX) and not name.startswith(".")
    ]
    if not names:
        raise DataError(f"{title} holds no {SUFFIX} file, there or below")
    return sorted(names), sorted(unreadable)
