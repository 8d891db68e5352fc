"""The one decoder of image files: for data sets, references, and folders that are scored.

What is read how is in docs/images.md. Nothing here trusts a file: a folder collected over years
holds empty, truncated, misnamed and absurdly large ones, and one must not stop the rest. What
cannot be read rightly is refused by a `SkippedImageError` that names the reason.
"""

import contextlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from kod_bench.data import formats
from kod_bench.data.depths import Depth, Span, ValueRange, check_range, span_of, to_bytes
from kod_bench.data.files import MAX_PIXELS, Color, SkippedImageError, SourcePixels, printable

_ORIENTATION = 0x0112  # of EXIF
_TURNED = (5, 6, 7, 8)  # width and height change places
_SIZE = 256, 257  # width and height, of TIFF
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # of TIFF
_WHITE_IS_ZERO = 0
_GRAY_MODES = ("1", "L", "LA", "La", "I", "F")
# How far the channels of a gray image part by rounding: one level in lossless files; in those that
# keep colour as YCbCr, one level of chroma is up to 1.402 of red and 1.772 of blue, against green.
_LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")
_LOSSLESS_ROUNDING, _LOSSY_ROUNDING = 1, 3

FIRST_FRAME = "used the first of several frames of {images}"
ON_WHITE = "filled the transparent parts of {images} with white"


@dataclass(frozen=True)
class Decoded:
    """An image file's pixels, and what a user should know about how they were read.

    Attributes:
        pixels: (H, W) gray or (H, W, 3) RGB, uint8, 0 black to 255 white.
        remarks: Each with a place {images} for the number of those it is true of.
        span: Of the values, where they are not 8-bit.
    """

    pixels: SourcePixels
    remarks: tuple[str, ...] = ()
    span: Span | None = None


@dataclass(frozen=True)
class Header:
    """What is known of an image file without its pixels.

    Attributes:
        size: (height, width) of the image, upright.
        depth: Of its numbers; None for 8 bits.
    """

    size: tuple[int, int]
    depth: Depth | None


@dataclass(frozen=True)
class Survey:
    """What has to be known of every image before the first is prepared.

    Attributes:
        gray: Whether its channels are equal, but for the rounding of its file.
        span: Of the values, where they are not 8-bit.
    """

    gray: bool
    span: Span | None = None


def decode(
    path: Path, color: Color, value_range: ValueRange | None = None, min_side: int = 1
) -> Decoded:
    """Decodes an image file: path => HW gray or HWC RGB, uint8, 0 black to 255 white.

    In gray, colour (RGB, CMYK, palettes) becomes luma, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).
    Transparent parts become white paper, an image is turned upright as its EXIF notes say, and of
    several frames or pages the first is taken.

    Args:
        path: Of the file.
        color: "gray" or "rgb".
        value_range: What becomes 0 and 255, of values that are not 8-bit; None for the full range
            of 16 bits, of which the upper 8 are kept.
        min_side: In pixels.

    Raises:
        SkippedImageError: The file is no image, is damaged, is outside the accepted sizes, or says
            by nothing what is black and what is white.
    """
    with _opened(path, min_side) as (image, depth):
        if depth is not None:
            check_range(depth, value_range)
        several = getattr(image, "n_frames", 1) > 1
        image, negative = _upright(image)
        remarks = [FIRST_FRAME] if several else []
        if depth is None or depth.colour:
            pixels, filled = _eight_bits(image, color)
            return Decoded(
                pixels,
                (*remarks, ON_WHITE) if filled else tuple(remarks),
                None if depth is None else _upper_span(pixels, depth),
            )
        values = _values(image, depth)
        span = span_of(values, depth)
        gray = to_bytes(values, depth, value_range)
        if negative:
            gray = 255 - gray
        clear = image.info.get("transparency")
        if isinstance(clear, int) and (values == clear).any():  # of PNG: one gray value
            gray[values == clear] = 255
            remarks.append(ON_WHITE)
        return Decoded(as_color(gray, color), tuple(remarks), span)


def decode_array(
    values: NDArray[Any], depth: Depth | None, color: Color, value_range: ValueRange | None
) -> Decoded:
    """The same of an array: (H, W), (H, W, 1) gray, (H, W, 3) RGB or (H, W, 4) RGBA.

    Args:
        values: The image.
        depth: Of its numbers; None for 8 bits.
        color: As of files.
        value_range: As of files.

    Raises:
        SkippedImageError: As of files.
    """
    span = None if depth is None else span_of(values, depth)
    if depth is None:
        pixels = np.asarray(values, np.uint8) * (255 if values.dtype == np.bool_ else 1)
    else:
        pixels = to_bytes(values, depth, value_range)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    found, filled = _eight_bits(Image.fromarray(np.ascontiguousarray(pixels)), color)
    return Decoded(found, (ON_WHITE,) if filled else (), span)


def survey(path: Path, *, colors: bool, spans: bool) -> Survey:
    """Looks at an image file, no further than its header where that says enough.

    Args:
        path: Of the file.
        colors: Whether to find out if it is gray.
        spans: Whether to find out its lowest and highest value.

    Raises:
        SkippedImageError: The file is no image, or is damaged.
    """
    with _opened(path, 1) as (image, depth):
        span = None
        if spans and depth is not None and not depth.colour:
            span = span_of(_values(_upright(image)[0], depth), depth)
        if not colors or image.mode.startswith("I;") or image.mode in _GRAY_MODES:
            return Survey(True, span)
        rounding = _LOSSY_ROUNDING if image.format in _LOSSY else _LOSSLESS_ROUNDING
        image.load()
        pixels, _ = _eight_bits(image, "rgb")
        spread = pixels.max(axis=2).astype(int) - pixels.min(axis=2)
        return Survey(int(spread.max()) <= rounding, span)


def read_header(path: Path) -> Header:
    """What the header of an image file says.

    Raises:
        SkippedImageError: The file is no image, or its header is damaged.
    """
    with _opened(path, 1) as (image, depth):
        width, height = image.size
        if image.format == "TIFF":  # of which newer Pillows have turned the size already
            width, height = (_first(image.tag_v2[tag]) for tag in _SIZE)  # type: ignore[attr-defined]
        turned = False
        with contextlib.suppress(Exception):
            turned = image.getexif().get(_ORIENTATION) in _TURNED
        return Header((width, height) if turned else (height, width), depth)


def as_color(gray: SourcePixels, color: Color) -> SourcePixels:
    """(H, W) gray as (H, W) or as (H, W, 3) with three equal channels."""
    return np.stack([gray] * 3, axis=-1) if color == "rgb" else gray


@contextlib.contextmanager
def _opened(path: Path, min_side: int) -> Iterator[tuple[Image.Image, Depth | None]]:
    """The image, of which only the header has been read, and the depth of what is not 8-bit."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
            raise SkippedImageError("not a regular file")
        if status.st_size == 0:
            raise SkippedImageError("empty file")
        formats.image_suffixes()  # registers what Pillow does not read by itself
        # Not by its name: Pillow then maps an uncompressed TIFF into memory at its turned size, and
        # one that lies on its side is read with the wrong width (13.0).
        with path.open("rb") as file, Image.open(file) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise SkippedImageError(
                    f"{width}x{height} pixels, more than {MAX_PIXELS // 1_000_000} million"
                )
            if min(width, height) < min_side:
                raise SkippedImageError(f"{width}x{height} pixels, too small")
            if not formats.has_format(image.format):
                raise SkippedImageError(f"{image.format} files are not read")
            if image.mode == "LAB":
                raise SkippedImageError("CIE Lab pixels; save it as RGB")
            yield image, _depth(image)
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


def _depth(image: Image.Image) -> Depth | None:
    """What the header says of the numbers; None where Pillow gives 8 bits and there are no more."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    bits = _first(tags.get(_BITS, 1))
    signed = _first(tags.get(_SAMPLE_FORMAT, 1)) == 2
    if signed and bits <= 8:  # Pillow gives them as if they were unsigned (13.0)
        raise SkippedImageError(f"{bits}-bit signed integers; save them unsigned")
    tile = next(iter(getattr(image, "tile", ())), None)
    if image.mode == "F":
        return Depth(max(bits, 32), "float")
    if image.mode.startswith("I;"):  # "I;16" and its byte orders
        return Depth(bits if bits > 8 else 16)
    if image.mode == "I":
        if tags:
            return Depth(bits, "signed" if signed else "unsigned")
        if image.format == "PPM":
            if tile is not None and tile[0] in ("ppm", "ppm_plain"):
                return Depth(16, white=int(tile[3][1]))
            return Depth(16)
        return Depth(16 if image.format == "PNG" else 32)  # PNG: of older Pillows
    rawmode = str(tile[3] if tile and image.format == "PNG" else "")
    deep = bits == 16 or ";16B" in rawmode
    return Depth(16, colour=True) if deep else None


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)


def _upright(image: Image.Image) -> tuple[Image.Image, bool]:
    """The pixels, turned as the notes say; and whether 0 is white.

    Pillow heeds that itself in TIFFs of up to 8 bits, and in no others (13.0).
    """
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    deep = image.mode.startswith("I") or image.mode == "F"
    negative = deep and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    image.load()
    with contextlib.suppress(Exception):  # damaged notes do not make a damaged image
        ImageOps.exif_transpose(image, in_place=True)
    return image, negative


def _values(image: Image.Image, depth: Depth) -> NDArray[Any]:
    values = np.asarray(image)
    if depth.kind == "unsigned" and depth.bits == 32:  # Pillow keeps them as if they were signed
        values = values.astype(np.int32).view(np.uint32)
    if depth.white is not None:  # Pillow has stretched them to 16 bits
        values = np.rint(values * (depth.white / 65_535)).astype(np.int64)
    return values


def _upper_span(pixels: SourcePixels, depth: Depth) -> Span:
    return Span(depth, int(pixels.min()) << 8, (int(pixels.max()) << 8) + 255)


def _eight_bits(image: Image.Image, color: Color) -> tuple[SourcePixels, bool]:
    """Pixels of an image of at most 8 bits, and whether any of it was transparent."""
    filled = False
    if image.has_transparency_data:
        if image.mode in ("La", "RGBa"):  # premultiplied
            image = image.convert("LA" if image.mode == "La" else "RGBA")
        image = image.convert("RGBA")
        filled = int(np.asarray(image.getchannel("A")).min()) < 255
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return np.array(image.convert("L" if color == "gray" else "RGB"), np.uint8), filled
