"""Image files on disk: found in a stable order, and decoded to 8-bit gray or RGB.

Nothing here trusts a file: a data folder collected over years holds empty, truncated, misnamed and
absurdly large ones, and one of them must not stop the rest.
"""

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from kod_bench.data.errors import DataError

Color = Literal["gray", "rgb"]
SourcePixels = NDArray[np.uint8]  # (H, W) gray or (H, W, 3) RGB

# fmt: off
IMAGE_SUFFIXES = (
    ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)
# fmt: on
MAX_PIXELS = 20_000_000  # a palm at 500 dpi has 6 million; beyond this it is a mistake or a bomb
MIN_SIDE = 8  # pixels; the smallest image_size


class SkippedImageError(Exception):
    """An image that cannot be used; its message is the reason, in a few words."""


@dataclass(frozen=True)
class Decoded:
    """An image file's pixels, and what a user should know about how they were read."""

    pixels: SourcePixels
    remark: str = ""


def reason_kind(reason: str) -> str:
    """The part of a reason that many files share, for counting: without sizes and details."""
    return re.sub(r"^\d+x\d+ pixels[^,]*, ", "", reason).split(":")[0]


def is_image_name(path: PurePosixPath) -> bool:
    """Whether a path names an image that was meant to be one.

    Names that start with a dot are left out (macOS leaves a `._x.tif` beside each `x.tif` on
    foreign disks, and a folder `__MACOSX` of them in archives).
    """
    is_hidden = any(map(_is_hidden, path.parts))
    return path.name.lower().endswith(IMAGE_SUFFIXES) and not is_hidden


def find_images(root: Path, title: str) -> tuple[list[str], list[str]]:
    """Lists the image files below a folder.

    Links to folders are followed, each folder once, so that a loop of links ends.

    Args:
        root: The folder.
        title: What to call it in messages.

    Returns:
        Sorted names relative to the folder, and the names of subfolders that could not be read.

    Raises:
        DataError: The folder is missing, is no folder, cannot be read, or holds no image.
    """
    try:
        with os.scandir(root):
            pass
    except FileNotFoundError:
        raise DataError(f"{title} does not exist; name a folder of images") from None
    except NotADirectoryError:
        raise DataError(f"{title} is not a folder; name the one that holds the images") from None
    except OSError as error:
        raise DataError(f"{title} cannot be read: {error.strerror}") from None

    unreadable: list[str] = []
    names: list[str] = []

    def note(error: OSError) -> None:
        unreadable.append(_relative(Path(error.filename), root))

    for folder, files in walk_once(root, note):
        names.extend(
            _relative(Path(folder, name), root)
            for name in files
            if is_image_name(PurePosixPath(name))
        )
    if not names:
        raise DataError(
            f"{title} holds no image; looked for {', '.join(IMAGE_SUFFIXES)} there and below"
        )
    return sorted(names), sorted(unreadable)


def walk_once(root: Path, onerror: Callable[[OSError], None]) -> Iterator[tuple[str, list[str]]]:
    """Each folder from `root` down with the names of its files, as `os.walk`.

    Links to folders are followed, each folder once, so that a loop of links ends. Hidden folders,
    and those of `is_image_name`, are left out.
    """
    visited: set[tuple[int, int]] = set()
    for folder, subfolders, files in os.walk(root, onerror=onerror, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            subfolders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not _is_hidden(name))
        yield folder, files


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _relative(path: Path, root: Path) -> str:
    return PurePosixPath(path.relative_to(root)).as_posix()


def printable(name: str) -> str:
    """A file name that can be printed and stored, whatever its bytes."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def decode(path: Path, color: Color) -> Decoded:
    """Decodes an image file: path => HW gray or HWC RGB, uint8, 0 black to 255 white.

    In gray, colour (RGB, CMYK, palettes) becomes luma. Transparency becomes white paper, 16 bits
    become the upper 8, an image is turned upright as its EXIF notes say, and of several frames or
    pages the first is taken, with a remark.

    Raises:
        SkippedImageError: The file is no image, is damaged, or is outside the accepted sizes.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would wait for ever
            raise SkippedImageError("not a regular file")
        if path.stat().st_size == 0:
            raise SkippedImageError("empty file")
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise SkippedImageError(
                    f"{width}x{height} pixels, more than {MAX_PIXELS // 1_000_000} million"
                )
            if min(width, height) < MIN_SIDE:
                raise SkippedImageError(f"{width}x{height} pixels, too small")
            several = getattr(image, "n_frames", 1) > 1
            image.load()
            with contextlib.suppress(Exception):  # damaged notes do not make a damaged image
                ImageOps.exif_transpose(image, in_place=True)
            return Decoded(_to_bytes(image, color), "first of several frames" if several else "")
    except SkippedImageError:
        raise
    except UnidentifiedImageError:
        raise SkippedImageError("not an image") from None
    except Image.DecompressionBombError:
        raise SkippedImageError(f"more than {MAX_PIXELS // 1_000_000} million pixels") from None
    except Exception as error:
        # Pillow's decoders meet damaged files with SyntaxError, struct.error, IndexError, zlib's
        # own and others; to the reader of the folder they are all the same.
        if isinstance(error, OSError) and error.strerror:  # the system's word, not the decoder's
            raise SkippedImageError(error.strerror) from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SkippedImageError(f"damaged: {printable(reason)[:80]}") from None


def _to_bytes(image: Image.Image, color: Color) -> SourcePixels:
    if image.mode.startswith("I"):  # "I;16" and its byte orders; "I" from older 16-bit PNG readers
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65_535:
            raise SkippedImageError("more than 16 bits per pixel")
        image = Image.fromarray((deep >> 8).astype(np.uint8))
    if image.mode == "F":
        raise SkippedImageError("floating-point pixels have no defined white")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return np.array(image.convert("L" if color == "gray" else "RGB"), np.uint8)
