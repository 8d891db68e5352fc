"""Pictures in trials' folders: identified before anything is done with them."""

import io
import logging
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kod_bench.errors import one_line
from kod_bench.inside import MOST_PICTURE, read_bytes

#: Pixels of a frame; a grid of 64 images of 256 x 256 has four million.
MOST_PIXELS = 50_000_000

_FORMATS = ("PNG", "GIF")
_BETWEEN = 128  # of all three channels: the gray between fields, which no hue and no mark has

_log = logging.getLogger(__name__)


def read_picture(path: Path) -> bytes | None:
    """The content of a PNG or GIF file; None, and a line in the log, if it is none.

    Its header is read, and a PNG's checksums; it is not decoded. A picture of more than
    `MOST_PIXELS` would take the page's memory, and is none either.
    """
    try:
        content = read_bytes(path, MOST_PICTURE)
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("%s", error)
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # counted here
            with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
                width, height = picture.size
                if width * height > MOST_PIXELS:
                    raise ValueError(f"{width} x {height} pixels")
                picture.verify()
    except Exception as error:  # damaged files fail in many ways: struct, zlib, EOF, a bomb ...
        reason = str(error) if isinstance(error, ValueError) else "no PNG or GIF"
        _log.warning("%s: is left out (%s)", path, reason)
        return None
    return content


def read_first_fields(path: Path, side: int) -> Image.Image | None:
    """`first_fields` of a file; None, and a line in the log, if it is no picture."""
    if (content := read_picture(path)) is None:
        return None
    try:
        return first_fields(content, side)
    except (OSError, ValueError, SyntaxError) as error:  # sound outside, broken inside
        _log.warning("%s: is left out (%s)", path, one_line(error))
        return None


def first_fields(content: bytes, side: int) -> Image.Image:
    """Of a grid of fields of angles the first ones, as many whole ones as fit in a square.

    They are cut out, not made smaller: that would leave nothing of the marks of their vortices.

    Args:
        content: of the file, see `read_picture`.
        side: pixels of the square. Of a field that is larger, its upper left corner is shown.

    Raises:
        OSError, ValueError, SyntaxError: what looked sound cannot be decoded.
    """
    with Image.open(io.BytesIO(content), formats=_FORMATS) as whole:
        box = (0, 0, min(whole.width, 2 * side), min(whole.height, 2 * side))
        corner = whole.convert("RGB").crop(box)
    gray = (np.asarray(corner) == _BETWEEN).all(axis=2)
    diagonal = gray.diagonal()
    gap = int(diagonal.argmin())  # 0 if all is gray
    across, down = (_reach(line, gap, side) for line in (gray[gap], gray[:, gap]))
    return corner.crop((gap, gap, across, down))


def _reach(gray: NDArray[np.bool_], gap: int, side: int) -> int:
    """Where the last field ends that fits, on a line through the grid from its border on."""
    edges = np.flatnonzero(np.diff(gray[gap:], append=True, prepend=True)) + gap
    fits = [int(end) for end in edges[1::2] if end - gap <= side]
    return fits[-1] if fits else min(len(gray), gap + side)
