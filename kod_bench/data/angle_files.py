"""`angles:PATH`: fields of angles from a user's `.npy` files.

A file holds one field, (H, W), or several, (N, H, W), of any range, in radians or degrees; all have
one shape. Whatever looks as if it were no angle ends the reading, with the file and the value: a
data set of what happens to be readable would be another one than its name says.
"""

import math
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kod_bench.data import files
from kod_bench.data.angle_checks import check_angles, intensity_notes, is_one_angle
from kod_bench.data.angle_fields import cut, middle, shrink
from kod_bench.data.angle_options import shrinking
from kod_bench.data.archives import is_archive
from kod_bench.data.errors import DataError
from kod_bench.data.files import MIN_SIDE, SkippedImageError
from kod_bench.data.hash_index import hash_files
from kod_bench.data.name_schemes import Labels
from kod_bench.data.notes import counted_note
from kod_bench.data.options import DatasetOptions
from kod_bench.data.spec import DatasetSpec, Source, SourceImage
from kod_bench.data.sphere_maps import find_arrays

_READ_AT_ONCE = 8
_READER = 2  # raise with every change that may alter a field as it is read, or what is refused


class AngleFolderSource:
    """The `.npy` files below a folder, one unit each.

    Raises:
        DataError: The folder is missing, is no folder, cannot be read, or holds no such file.
    """

    parallel = False  # few array operations each
    split_rule = ""

    def __init__(self, options: DatasetOptions, folder: Path, cache_dir: Path) -> None:
        self.name = f"angles-{folder.name}"
        self.title = f"data folder {folder}"
        self._options = options
        self._folder = folder
        names, unreadable = find_arrays(folder, self.title)
        self._files = hash_files(folder, names, cache_dir, _READ_AT_ONCE)
        self.units = len(names)
        self.notes = counted_note(
            "skipped", "unreadable folder", [files.printable(n) for n in unreadable]
        )
        self.reading = ""

    def identity(self) -> dict[str, object]:
        """Names and contents of the files, and their unit."""
        return {
            "reader": _READER,
            "files": [[file.name, file.size, file.digest] for file in self._files],
            "unit": self._options.angles.unit,
        }

    def unpack(self, folder: Path) -> None:
        """Look at all files.

        Raises:
            DataError: One holds no angles, or fields of another shape than the first.
        """
        del folder
        first: tuple[str, tuple[int, ...]] | None = None
        lowest, highest = math.inf, -math.inf
        for file in self._files:
            fields = self._open(file.name)
            shape = fields.shape[1:]
            if first is not None and shape != first[1]:
                raise DataError(
                    f"{self.title}: {files.printable(file.name)} has fields of {_size(shape)}, "
                    f"{files.printable(first[0])} of {_size(first[1])}; all must have one shape"
                )
            first = first or (file.name, shape)
            for place, field in enumerate(fields):
                which = f", field {place + 1} of {len(fields)}," if len(fields) > 1 else ""
                where = f"{self.title}: {files.printable(file.name)}{which}"
                low, high = self._check(where, field)
                lowest, highest = min(lowest, low), max(highest, high)
        unit = self._options.angles.unit
        self.notes += intensity_notes(lowest, highest, unit)
        self.reading = f"{unit or 'radians'} from {lowest:g} to {highest:g}, wrapped"

    def read(self, unit: int) -> Iterable[SourceImage]:
        """The fields of one file, as views."""
        name = self._files[unit].name
        fields = self._open(name)
        for place, field in enumerate(fields):
            own = name if len(fields) == 1 else f"{name}#{place + 1:06d}"
            try:
                yield SourceImage(own, self._view(np.asarray(field, np.float64)))
            except SkippedImageError as error:
                yield SourceImage(own, reason=str(error))

    def _view(self, field: NDArray[np.float64]) -> NDArray[np.float32]:
        options = self._options
        if options.angles.unit == "degrees":
            field = np.deg2rad(field)
        if options.view == "whole":
            return middle(field, options.image_size)
        return np.concatenate(
            [cut(shrink(field, shrinking(scale)), options.image_size) for scale in options.scales]
        )

    def _check(self, where: str, field: NDArray[np.generic]) -> tuple[float, float]:
        """The lowest and highest value of a field that can be one of angles.

        Raises:
            DataError: It cannot; with `where` it is.
        """
        unit = self._options.angles.unit
        mend = "say angles.unit: degrees, or angles.unit: radians if they go on beyond a turn"
        try:
            low, high = check_angles(field, unit, mend)
        except ValueError as error:
            raise DataError(f"{where} {error}") from None
        if is_one_angle(field, unit):
            turns = " but for whole turns" * (high - low > 1)  # or by rounding
            raise DataError(
                f"{where} is {low:g} everywhere{turns}: a constant is no field of angles"
            )
        return low, high

    def _open(self, name: str) -> NDArray[np.generic]:
        """(N, H, W) of a file, memory-mapped. Nothing in it is ever unpickled.

        Raises:
            DataError: It is no such file, or its shape or type is not allowed.
        """
        path, where = self._folder / name, f"{self.title}: {files.printable(name)}"
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise DataError(f"{where} is not a regular file")
            array = np.lib.format.open_memmap(path, mode="r")
        except DataError:
            raise
        except OSError as error:
            raise DataError(f"{where} cannot be read ({error.strerror})") from None
        except Exception as error:  # NumPy's reader meets damaged headers with many kinds
            what = "pickled Python objects" if "Python objects" in str(error) else "no NumPy array"
            raise DataError(f"{where} holds {what}, or is cut short; needs numbers") from None
        if array.dtype.kind not in "fiu" or array.dtype == np.uint8:
            hint = ", as images have; angles are numbers" if array.dtype == np.uint8 else ""
            raise DataError(f"{where} holds {array.dtype}{hint}; needs real numbers")
        if array.ndim not in (2, 3) or min(array.shape[-2:]) < MIN_SIDE or not array.size:
            channels = array.ndim > 2 and array.shape[-1] in (3, 4)
            raise DataError(
                f"{where} has shape {tuple(array.shape)}{', as images in colour have' * channels}; "
                f"needs (H, W) or (N, H, W), sides of at least {MIN_SIDE}"
            )
        return np.asarray(array[None] if array.ndim == 2 else array)


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _files_of(names: Sequence[str], digests: Sequence[str]) -> list[Labels]:
    """Fields of one file belong together, where there are several: they follow on each other."""
    del digests
    own = [name.split("#")[0] for name in names]
    return [(name,) for name in (own if len(set(own)) > 1 else names)]


def _open(options: DatasetOptions, folder: Path | None, cache_dir: Path) -> Source:
    if folder is None:
        raise DataError(f"dataset {options.name} names no folder")
    if is_archive(folder):
        raise DataError(f"archive {folder}: a folder of .npy files is needed; unpack it")
    return AngleFolderSource(options, folder, cache_dir)


SPEC = DatasetSpec(
    subject="angles",
    values="angles",
    group_noun="files, or fields of a single one",
    group_labels=_files_of,
    layout=".npy files of (H, W) or (N, H, W) angles; folders train and test are the split",
    licence="yours to know",
    without_folder=lambda _: "the folder that the name says",
    open_special=_open,
)
