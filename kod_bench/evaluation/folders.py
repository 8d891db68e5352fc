"""Folders of images from any tool, read as clean-fid reads them."""

import copy
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from kod_bench.data.files import walk_once
from kod_bench.errors import UsageError, one_line

#: clean-fid's, in any case of letters; it leaves out .BMP beside .bmp, which nobody means.
SUFFIXES = (
    *(".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
    ".npy",  # (H, W, 3) uint8
)

_MIN_IMAGES = 2

Found = TypeVar("Found")


class ImageFolder:
    """The images below a folder, in the order of their paths.

    Links to folders are followed, each folder once; hidden files are left out. Every image becomes
    RGB by Pillow's conversion, as in clean-fid: gray as three equal channels, transparency ignored.

    Args:
        path: of the folder.

    Raises:
        UsageError: if it is missing, is no folder, holds fewer than two images, or holds an image
            whose header cannot be read. Scores of what happens to be readable would be scores of
            something else than what the folder's name says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = _find(path)
        if len(self.files) < _MIN_IMAGES:
            what = "no image" if not self.files else "1 image, and at least 2 are needed"
            raise UsageError(f"{path}: holds {what}; looked for {', '.join(SUFFIXES)} and below")
        self._sizes = self._each(_size, self.files)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def sizes(self) -> set[tuple[int, int]]:
        """Every (height, width) that occurs."""
        return set(self._sizes)

    def subset(self, indices: Sequence[int]) -> "ImageFolder":
        """The same folder with only these of its images."""
        chosen = copy.copy(self)
        chosen.files = [self.files[index] for index in indices]
        chosen._sizes = [self._sizes[index] for index in indices]
        return chosen

    def batches(self, size: int) -> Iterator[Tensor]:
        """(B, 3, H, W) uint8 tensors of at most `size` images, each of one image size, in order.

        Raises:
            UsageError: if an image is damaged beyond its header.
        """
        first = 0
        while first < len(self.files):
            last = first + 1
            while last < min(first + size, len(self)) and self._sizes[last] == self._sizes[first]:
                last += 1
            pixels = self._each(_decode, self.files[first:last])
            yield torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
            first = last

    def load(self) -> Tensor:
        """All images, (N, 3, H, W) uint8; they must have one size."""
        return torch.cat(list(self.batches(256)))

    def _each(self, read: Callable[[Path], Found], files: list[Path]) -> list[Found]:
        """`read` of every file, or one refusal that counts those that cannot be read."""
        failed: dict[Path, str] = {}

        def attempt(path: Path) -> Found | None:
            try:
                return read(path)
            except Exception as error:  # decoders meet damaged files with errors of every kind
                failed[path] = _reason(error)
                return None

        with warnings.catch_warnings(), ThreadPoolExecutor(torch.get_num_threads()) as pool:
            warnings.simplefilter("ignore")  # Pillow's remarks are either fatal or no concern
            found = [each for each in pool.map(attempt, files) if each is not None]
        if failed:
            first = min(failed)
            raise UsageError(
                f"{self.path}: {len(failed)} of {len(files)} images cannot be read, first "
                f"{first.relative_to(self.path)} ({failed[first]}); remove or replace them"
            )
        return found


def _find(root: Path) -> list[Path]:
    if not root.is_dir():
        raise UsageError(f"{root}: {'is not a folder' if root.exists() else 'does not exist'}")

    def refuse(error: OSError) -> None:
        raise UsageError(f"{error.filename}: cannot be read ({error.strerror})")

    found = (
        Path(folder, name)
        for folder, names in walk_once(root, refuse)
        for name in names
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    )
    return sorted(found, key=str)


def _size(path: Path) -> tuple[int, int]:
    if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would wait for ever
        raise OSError("not a regular file")
    if path.suffix.lower() == ".npy":
        height, width, _ = _array(path).shape
        return height, width
    with Image.open(path) as image:
        return image.height, image.width


def _decode(path: Path) -> npt.NDArray[np.uint8]:
    if path.suffix.lower() == ".npy":
        return np.array(_array(path))
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def _array(path: Path) -> npt.NDArray[np.uint8]:
    pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"{pixels.dtype} {pixels.shape}, not (H, W, 3) uint8")
    return np.asarray(pixels)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error)[:80]
