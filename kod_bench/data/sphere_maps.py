"""Maps of the sphere from a user's `.npy` files, and between the pixels of any map.

A file holds one map: a two-dimensional array of numbers, rows of latitudes from the north pole to
the south pole, columns once around, on one of the grids of `sphere_grids`. What is not said is
recognised, of all files of one shape together, by `sphere_recognition`. A map becomes the function
of degrees below L that its coefficients are, on the Gauss-Legendre grid; one that is there already
stays as it is. The lowest value of all maps then becomes 0 and the highest one 255.
"""

import math
import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from kod_bench.data import files
from kod_bench.data.depths import depth_of_array
from kod_bench.data.errors import DataError
from kod_bench.data.files import MAX_PIXELS, MIN_SIDE, SkippedImageError
from kod_bench.data.fill_values import fill_with_mean, find_fill, is_missing
from kod_bench.data.hash_index import hash_files
from kod_bench.data.notes import counted_note
from kod_bench.data.options import DatasetOptions
from kod_bench.data.spec import SourceImage
from kod_bench.data.sphere_grids import analyse
from kod_bench.data.sphere_options import SphereOptions
from kod_bench.data.sphere_recognition import Evidence, Layout, Shape, check_shape

FloatArray = NDArray[np.float64]

SUFFIX = ".npy"
_READ_AT_ONCE = 8
_LARGEST = 1e100  # a float's own limit would not survive a difference of two
_READER = 2  # raise with every change that may alter a map as it is read


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
        self.reading = ""
        self._rows = options.image_size
        self._options = options.sphere
        self._folder = folder
        names, unreadable = find_arrays(folder, self.title)
        self._files = hash_files(folder, names, cache_dir, _READ_AT_ONCE)
        self._lowest, self._highest = math.inf, -math.inf
        self._layouts: dict[Shape, Layout | SkippedImageError] = {}
        self.units = len(names)
        self.notes = counted_note(
            "skipped", "unreadable folder", [files.printable(n) for n in unreadable]
        )

    def identity(self) -> dict[str, object]:
        """Names and contents: other files may have other extremes, and change every map."""
        names = [[file.name, file.size, file.digest] for file in self._files]
        said = self._options
        return {
            "reader": _READER,
            "files": names,
            "grid": said.grid,
            "flip": said.flip,
            "fill": said.fill,
        }

    def unpack(self, folder: Path) -> None:
        """Find the grids of all maps that can be used, their lowest and their highest value.

        Raises:
            DataError: A grid cannot be told, or a number looks like none.
        """
        del folder
        counts: Counter[Shape] = Counter()
        evidence: dict[Shape, Evidence] = {}
        missing = total = 0
        for file in self._files:
            try:
                values = read_map(self._folder / file.name)
                missing += int(_missing(values, self._options).sum())
                total += values.size
                values = self._complete(values, file.name)
            except SkippedImageError:
                continue
            shape = (values.shape[0], values.shape[1])
            counts[shape] += 1
            evidence.setdefault(shape, Evidence(shape)).add(values)
        for shape, found in evidence.items():
            try:
                self._layouts[shape] = found.conclude(self._options.grid)
            except SkippedImageError as reason:
                self._layouts[shape] = reason
            except DataError as error:
                raise DataError(f"{self.title}: {error}") from None
        for file in self._files:
            try:
                values = self._on_grid(file.name)
            except SkippedImageError:
                continue
            self._lowest = min(self._lowest, float(values.min()))
            self._highest = max(self._highest, float(values.max()))
        self.reading = _describe(counts, self._layouts, self._options, missing / max(total, 1))

    def read(self, unit: int) -> Iterable[SourceImage]:
        """The map of one file, on the Gauss-Legendre grid."""
        name = self._files[unit].name
        try:
            values = self._on_grid(name)
        except SkippedImageError as error:
            return [SourceImage(name, reason=str(error))]
        spread = self._highest - self._lowest
        shares = (values - self._lowest) / spread if spread else np.zeros_like(values)
        return [SourceImage(name, np.rint(255 * shares).astype(np.uint8))]

    def _on_grid(self, name: str) -> FloatArray:
        values = self._complete(read_map(self._folder / name), name)
        layout = self._layouts.get((values.shape[0], values.shape[1]))
        if layout is None:
            raise SkippedImageError("changed while the folder was read")
        if isinstance(layout, SkippedImageError):
            raise layout
        return to_gauss_legendre(values[:, :-1] if layout.repeated else values, layout, self._rows)

    def _complete(self, values: FloatArray, name: str) -> FloatArray:
        """A map from north to south in which nothing is missing.

        Raises:
            SkippedImageError: too much is, or a value is none.
            DataError: something seems to be, and was not said to be.
        """
        if self._options.flip:
            values = values[::-1]
        values = fill_with_mean(values, _missing(values, self._options))
        if np.isnan(values).any():
            raise SkippedImageError(
                "a value that is NaN, infinite or beyond 1e100; say sphere.fill: nan for what is "
                "missing"
            )
        if not (np.abs(values) < _LARGEST).all():
            raise SkippedImageError("a value that is NaN, infinite or beyond 1e100")
        if self._options.fill != "none" and (found := find_fill(values)) is not None:
            share = (values == found).mean()
            raise DataError(
                f"{self.title}: {files.printable(name)} is {found:g} in {share:.1%} of its values, "
                f"which seems to mean missing; say sphere.fill: {found:g} to put each map's mean "
                "there, or sphere.fill: none if they are values"
            )
        return values


def read_map(path: Path) -> FloatArray:
    """(latitudes, longitudes) of a `.npy` file, NaN and all. Nothing in it is ever unpickled.

    Raises:
        SkippedImageError: it is no such file, or its shape or type is not allowed.
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
        if _is_masked_dump(path):
            raise SkippedImageError(f"a pickled {_MASKED}") from None
        raise SkippedImageError("no NumPy array, or cut short") from None
    if array.dtype.names == ("_data", "_mask"):
        raise SkippedImageError(f"a {_MASKED}")
    depth_of_array(array.dtype)  # refuses what are no real numbers
    if array.ndim != 2 or min(array.shape) < MIN_SIDE or array.size > MAX_PIXELS:
        raise SkippedImageError(
            f"shape {tuple(array.shape)}; needs (latitudes, longitudes), each at least {MIN_SIDE}, "
            f"together at most {MAX_PIXELS // 1_000_000} million"
        )
    check_shape(array.shape)
    return np.asarray(array, np.float64)


_MASKED = "masked array; save its filled(VALUE), and say sphere.fill: VALUE"


def _is_masked_dump(path: Path) -> bool:
    """Whether a file is a pickle of a masked array, as its `dump` writes: by its first bytes."""
    with path.open("rb") as file:
        return b"numpy.ma" in file.read(64)


def _missing(values: FloatArray, options: SphereOptions) -> NDArray[np.bool_]:
    if options.fill is None or options.fill == "none":
        return np.zeros(values.shape, np.bool_)
    return is_missing(values, options.fill)


def _describe(
    counts: Counter[Shape],
    layouts: dict[Shape, Layout | SkippedImageError],
    options: SphereOptions,
    missing: float,
) -> str:
    """How the maps were read: "maps 73x144 on grid poles (by its shape)"."""
    parts = []
    for shape, _ in counts.most_common():
        layout = layouts[shape]
        if isinstance(layout, Layout):
            repeated = ", last meridian repeated" if layout.repeated else ""
            parts.append(f"{shape[0]}x{shape[1]} on grid {layout.grid} ({layout.why}{repeated})")
    more = f" and {len(parts) - _NAMED} other shapes" if len(parts) > _NAMED else ""
    said = f"maps {', '.join(parts[:_NAMED])}{more}"
    if options.flip:
        said += ", turned to have north first"
    if options.fill not in (None, "none"):
        shown = options.fill if options.fill == "nan" else f"{options.fill:g}"
        said += f", {missing:.1%} missing ({shown}), there each map's mean"
    return said


_NAMED = 3


def to_gauss_legendre(values: FloatArray, layout: Layout, rows: int) -> FloatArray:
    """A map on any grid => its function of degrees below L on the Gauss-Legendre grid, (L, 2 L).

    A map that is on that grid stays as it is, with what it has beyond those degrees.

    Args:
        values: (latitudes, longitudes), without a repeated meridian.
        layout: where they are.
        rows: L.
    """
    if layout.grid == "gauss-legendre" and values.shape == (rows, 2 * rows):
        return values
    from kod_bench.diffusion.spherical_harmonics import sphere_grid

    found = sphere_grid(rows).synthesis.numpy() @ analyse(values, layout.grid, rows)
    return np.asarray(found.reshape(rows, 2 * rows), np.float64)


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


def find_arrays(root: Path, title: str) -> tuple[list[str], list[str]]:
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
