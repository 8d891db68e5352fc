"""NumPy files of one image or of many, as samplers leave them."""

import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kod_bench.data.depths import Depth, depth_of_array
from kod_bench.data.files import SkippedImageError

#: Read besides image files.
SUFFIXES = (".npy", ".npz")
#: The array of an .npz that holds several: what `numpy.savez` calls the first without a name.
FIRST = "arr_0"
Images = tuple[NDArray[Any], Depth | None]

_FIELDS = "(H, W), (N, H, W) or (N, H, W, 1)"
_ALLOWED = "(H, W), (H, W, C), (N, H, W) or (N, H, W, C) with C 1, 3 or 4"


def open_images(path: Path) -> Images:
    """The images of a `.npy` or `.npz` file, memory-mapped, and the depth of their numbers.

    Nothing in them is ever unpickled.

    Args:
        path: A `.npz` holds `arr_0`, or one array alone.

    Returns:
        (N, H, W) or (N, H, W, C); None for 8 bits.

    Raises:
        SkippedImageError: It is no such file, or its shape or type is not allowed.
    """
    array = _open(path)
    return _as_batch(array), depth_of_array(array.dtype)


def open_fields(path: Path) -> Images:
    """As `open_images`, of fields of one number a site: three in a row are three, and no colours.

    Returns:
        (N, H, W), or (N, H, W, C).
    """
    array = _open(path)
    return _as_fields(array), depth_of_array(array.dtype)


def is_array(path: Path) -> bool:
    """Whether a file's name says that it holds arrays."""
    return path.name.lower().endswith(SUFFIXES)


def _open(path: Path) -> NDArray[Any]:
    try:
        return _map_npz(path) if path.suffix.lower() == ".npz" else _map(path)
    except SkippedImageError:
        raise
    except OSError as error:
        raise SkippedImageError(error.strerror or "cannot be read") from None
    except Exception as error:  # NumPy's reader meets damaged headers with many kinds
        if "Python objects" in str(error):
            raise SkippedImageError("pickled Python objects; needs numbers") from None
        raise SkippedImageError("no NumPy array, or cut short") from None


def _map(path: Path) -> NDArray[Any]:
    mapped: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    return mapped


def _map_npz(path: Path) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        chosen = FIRST if FIRST in names else names[0] if len(names) == 1 else None
        if chosen is None:
            raise SkippedImageError(f"holds {_listed(names)}, and not {FIRST}")
        # Fifty thousand samples are gigabytes: on the disk, and mapped, rather than in memory.
        with (
            archive.open(f"{chosen}.npy") as member,
            tempfile.NamedTemporaryFile(suffix=".npy") as copy,
        ):
            shutil.copyfileobj(member, copy)
            copy.flush()
            return _map(Path(copy.name))  # which stays readable without its name


def _as_batch(array: NDArray[Any]) -> NDArray[Any]:
    shape = tuple(array.shape)
    if 0 in shape or not 2 <= array.ndim <= 4:
        raise SkippedImageError(f"shape {shape}; needs {_ALLOWED}")
    channels_last = shape[-1] in (1, 3, 4)
    if array.ndim == 2:
        return array[None]
    if array.ndim == 3 and channels_last:
        return array[None]
    if array.ndim == 3 and shape[0] not in (1, 3, 4):
        return array
    if array.ndim == 4 and channels_last:
        return array
    # Three gray images, or the three channels of one? A guess would be silent.
    raise SkippedImageError(f"shape {shape}; needs {_ALLOWED}: channels come last")


def _as_fields(array: NDArray[Any]) -> NDArray[Any]:
    shape = tuple(array.shape)
    in_colour = len(shape) > 2 and shape[-1] in (3, 4) and shape[-2] != shape[-1]
    channels_last = len(shape) == 4 and shape[-1] in (1, 3, 4)
    if 0 in shape or not (array.ndim in (2, 3) or channels_last) or (in_colour and array.ndim == 3):
        hint = ", as images in colour have" * in_colour
        raise SkippedImageError(f"shape {shape}{hint}; needs {_FIELDS}")
    if array.ndim == 2 or (array.ndim == 3 and shape[-1] == 1):
        return array[None]
    return array


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) or "nothing"
