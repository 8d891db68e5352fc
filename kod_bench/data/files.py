"""Image files on disk, found in a stable order."""

import functools
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kod_bench.data import formats
from kod_bench.data.errors import DataError
from kod_bench.data.formats import Kind

Color = Literal["gray", "rgb"]
SourcePixels = NDArray[np.uint8]  # (H, W) gray or (H, W, 3) RGB
AngleField = NDArray[np.float32]  # (H, W) or (N, H, W) radians in [-pi, pi)

MAX_PIXELS = 20_000_000  # a palm at 500 dpi has 6 million; beyond this it is a mistake or a bomb
MIN_SIDE = 8  # pixels; the smallest image_size


class SkippedImageError(Exception):
    """An image that cannot be used; its message is the reason, in a few words."""


@dataclass(frozen=True)
class FoundImages:
    """What is below a folder; all names are sorted and relative to it, with "/".

    Attributes:
        names: Of the image files.
        unread: Of files that look like images and cannot be read.
        unreadable: Of subfolders that could not be opened.
    """

    names: list[str]
    unread: list[str]
    unreadable: list[str]


def reason_kind(reason: str) -> str:
    """The part of a reason that many files share, for counting: without sizes and details."""
    return re.sub(r"^\d+x\d+ pixels[^,]*, ", "", reason).split(":")[0]


def image_kind(path: PurePosixPath, head: Callable[[], bytes]) -> Kind:
    """Whether a path names an image that was meant to be one; see `formats.kind_of`.

    Names that start with a dot are left out (macOS leaves a `._x.tif` beside each `x.tif` on
    foreign disks, and a folder `__MACOSX` of them in archives).
    """
    return "" if any(map(_is_hidden, path.parts)) else formats.kind_of(path, head)


def find_images(root: Path, title: str) -> FoundImages:
    """Lists the image files below a folder.

    Links to folders are followed, each folder once, so that a loop of links ends.

    Args:
        root: The folder.
        title: What to call it in messages.

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
    kinds: dict[str, Kind] = {}

    def note(error: OSError) -> None:
        unreadable.append(_relative(Path(error.filename), root))

    for folder, files in walk_once(root, note):
        for name in files:
            path = Path(folder, name)
            kinds[_relative(path, root)] = image_kind(
                PurePosixPath(name), functools.partial(head, path)
            )
    names, unread = (
        sorted(name for name, kind in kinds.items() if kind == wanted)
        for wanted in ("image", "unread")
    )
    if not names:
        raise DataError(f"{title} holds no image; {nothing_to_read(unread)}")
    return FoundImages(names, unread, sorted(unreadable))


def head(path: Path) -> bytes:
    """How a file begins; b"" of what is no regular file, or cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would wait for ever
            return b""
        with path.open("rb") as file:
            return file.read(formats.HEAD_BYTES)
    except OSError:
        return b""


def nothing_to_read(unread: Sequence[str]) -> str:
    """Says what was looked for, and of what looked like an image why it is none."""
    if unread:
        first = f"{printable(unread[0])}{formats.how_to_read(unread[0])}"
        return f"{len(unread)} that cannot be read look like images, first {first}"
    return f"looked for {', '.join(formats.image_suffixes())} there and below"


def walk_once(root: Path, onerror: Callable[[OSError], None]) -> Iterator[tuple[str, list[str]]]:
    """Each folder from `root` down with the names of its files, as `os.walk`.

    Links to folders are followed, each folder once, so that a loop of links ends. Hidden folders,
    and those of `image_kind`, are left out.
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
