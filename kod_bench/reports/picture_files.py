"""Pictures in trials' folders: identified before anything is done with them."""

import io
import logging
import warnings
from pathlib import Path

from PIL import Image

from kod_bench.inside import MOST_PICTURE, read_bytes

#: Pixels of a frame; a grid of 64 images of 256 x 256 has four million.
MOST_PIXELS = 50_000_000

_FORMATS = ("PNG", "GIF")

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
