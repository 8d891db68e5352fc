"""Every kind of pixel becomes the gray or the colour it stands for, or is refused by name."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kod_bench.data.decoder import FIRST_FRAME, ON_WHITE, decode, decode_array, read_header, survey
from kod_bench.data.depths import Depth
from kod_bench.data.files import SkippedImageError
from kod_bench.evaluation.folders import ImageFolder
from tests.data.encoders import fits, png, tiff

GRAY = np.random.default_rng(0).integers(0, 256, (12, 20), dtype=np.uint8)
GRAY[0, :2] = 0, 255
DEEP = GRAY.astype(np.uint16) * 257
RGB = np.random.default_rng(1).integers(0, 256, (12, 20, 3), dtype=np.uint8)
HALF = np.where(np.arange(20) < 10, 255, 0).astype(np.uint8) * np.ones((12, 1), np.uint8)
ON_PAPER = np.where(HALF == 255, GRAY, 255)


def saved(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bilevel(invert: bool) -> bytes:
    return saved(Image.fromarray(HALF).convert("1"), "TIFF", tiffinfo={262: 0 if invert else 1})


# File by kind => the gray levels that it stands for.
GRAYS: dict[str, tuple[bytes, np.ndarray]] = {
    "8-bit PNG": (saved(GRAY, "PNG"), GRAY),
    "8-bit TIFF": (tiff(GRAY, 1), GRAY),
    "8-bit TIFF, white is zero": (tiff(255 - GRAY, 0), GRAY),
    "16-bit PNG": (png(DEEP), GRAY),
    "16-bit TIFF": (tiff(DEEP, 1), GRAY),
    "16-bit TIFF, big-endian": (tiff(DEEP, 1, order=">"), GRAY),
    "16-bit TIFF, LZW": (saved(DEEP, "TIFF", compression="tiff_lzw"), GRAY),
    # Pillow 13.0 heeds PhotometricInterpretation WhiteIsZero (TIFF 6.0, section 4) in 8 bits alone.
    "16-bit TIFF, white is zero": (tiff(65535 - DEEP, 0), GRAY),
    "12-bit TIFF": (tiff(GRAY.astype(np.uint16) << 4, 1, bits=12), GRAY),
    "16-bit PGM": (saved(DEEP, "PPM"), GRAY),
    "PGM up to 15": (b"P5 20 12 15\n" + (GRAY >> 4).tobytes(), (GRAY >> 4) * 17),
    "10-bit PGM": (
        b"P5 20 12 1023\n" + (GRAY.astype(np.uint16) << 2).astype(">u2").tobytes(),
        GRAY,
    ),
    "PGM up to 1000": (
        b"P5 20 12 1000\n" + (GRAY.astype(np.uint16) * 3).astype(">u2").tobytes(),
        (GRAY.astype(int) * 3 * 256 // 1001).astype(np.uint8),
    ),
    "16-bit JPEG 2000": (saved(DEEP, "JPEG2000"), GRAY),
    "1-bit PNG": (saved(Image.fromarray(HALF).convert("1"), "PNG"), HALF),
    "1-bit TIFF": (bilevel(invert=False), HALF),
    "1-bit TIFF, white is zero": (bilevel(invert=True), HALF),
    "palette": (saved(Image.fromarray(GRAY).convert("P"), "PNG"), GRAY),
    "RGB": (saved(Image.fromarray(GRAY).convert("RGB"), "PNG"), GRAY),
    "CMYK TIFF": (saved(Image.fromarray(GRAY).convert("RGB").convert("CMYK"), "TIFF"), GRAY),
    "gray with alpha": (png(np.dstack([GRAY, HALF])), ON_PAPER),
    "16-bit gray with alpha": (
        png(np.dstack([DEEP, HALF.astype(np.uint16) * 257])),
        ON_PAPER,
    ),
    "RGBA": (png(np.dstack([GRAY, GRAY, GRAY, HALF])), ON_PAPER),
    "RGBA TIFF": (tiff(np.dstack([GRAY] * 3 + [HALF]), 2, extra_samples=2), ON_PAPER),
    "RGBA TIFF, premultiplied": (
        tiff(
            np.dstack([np.where(HALF, GRAY, 0)] * 3 + [HALF]).astype(np.uint8), 2, extra_samples=1
        ),
        ON_PAPER,
    ),
    "gray TIFF with premultiplied alpha": (
        tiff(np.dstack([np.where(HALF, GRAY, 0), HALF]).astype(np.uint8), 1, extra_samples=1),
        ON_PAPER,
    ),
    "16-bit PNG, one gray is transparent": (
        png(DEEP, transparent=0),
        np.where(GRAY == 0, 255, GRAY),
    ),
    "8-bit PNG, one gray is transparent": (
        png(GRAY, transparent=0),
        np.where(GRAY == 0, 255, GRAY),
    ),
}


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "x.png"  # Pillow goes by the content
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("kind", GRAYS)
def test_gray_is_what_it_stands_for(file: Callable[[bytes], Path], kind: str) -> None:
    content, expected = GRAYS[kind]
    found = decode(file(content), "gray").pixels
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", GRAYS)
def test_what_is_scored_is_read_as_data_sets_are(tmp_path: Path, kind: str) -> None:
    content, expected = GRAYS[kind]
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(content)
    images = ImageFolder(tmp_path).load()
    assert images.shape == (2, 3, 12, 20)
    assert torch.equal(images[1], torch.from_numpy(np.stack([expected] * 3)))


@pytest.mark.parametrize(
    "content",
    [
        png(RGB.astype(np.uint16) * 257),
        tiff(RGB.astype(np.uint16) * 257, 2),
        saved(RGB, "TIFF"),
        saved(RGB, "WEBP", lossless=True),
        saved(RGB, "JPEG2000"),
    ],
    ids=["16-bit PNG", "16-bit TIFF", "TIFF", "WebP", "JPEG 2000"],
)
def test_colour_is_what_it_stands_for(file: Callable[[bytes], Path], content: bytes) -> None:
    np.testing.assert_array_equal(decode(file(content), "rgb").pixels, RGB)
    luma = np.asarray(Image.fromarray(RGB).convert("L"))
    np.testing.assert_array_equal(decode(file(content), "gray").pixels, luma)


def test_an_adobe_cmyk_jpeg_is_not_its_negative(file: Callable[[bytes], Path]) -> None:
    smooth = np.linspace(0, 255, 64).astype(np.uint8) * np.ones((64, 1), np.uint8)
    content = saved(Image.fromarray(smooth).convert("RGB").convert("CMYK"), "JPEG", quality=100)
    found = decode(file(content), "gray").pixels
    assert np.abs(found.astype(int) - smooth).max() <= 3


FLOATS = GRAY.astype(np.float32)


@pytest.mark.parametrize(
    ("content", "value_range"),
    [
        (tiff(FLOATS / 255, 1, sample_format=3), (0, 1)),
        (tiff(FLOATS / 127.5 - 1, 1, sample_format=3), (-1, 1)),
        (tiff(1 - FLOATS / 255, 0, sample_format=3), (0, 1)),  # white is zero
        (tiff(GRAY.astype(np.uint16) << 4, 1), (0, 4095)),
        (tiff(GRAY.astype(np.uint16) << 2, 1), (0, 1023)),
        (tiff(4095 - (GRAY.astype(np.uint16) << 4), 0), (0, 4095)),
        (tiff(GRAY.astype(np.int16) - 128, 1, sample_format=2), (-128, 127)),
        (tiff(GRAY.astype(np.uint32) << 24, 1), (0, 2**32 - 1)),
        (tiff(GRAY.astype(np.int32) - 70_000, 1, sample_format=2), (-70_000, -69_745)),
        (png(GRAY.astype(np.uint16) << 4), (0, 4095)),
        (b"P5 20 12 1023\n" + GRAY.astype(">u2").tobytes(), (0, 255)),
        (
            b"P2 20 12 5000\n" + b" ".join(b"%d" % (16 * v) for v in GRAY.ravel().tolist()),
            (0, 4095),
        ),
        (saved(GRAY, "PNG"), (0, 1)),  # 8 bits are as they are
    ],
    ids=[
        *("float", "float around 0", "float, white is zero", "12 in 16", "10 in 16"),
        *(
            "12 in 16, white is zero",
            "signed 16",
            "unsigned 32",
            "signed 32",
            "12 in PNG",
            "PGM",
            "plain PGM",
            "8 bits",
        ),
    ],
)
def test_a_range_scales(
    file: Callable[[bytes], Path], content: bytes, value_range: tuple[float, float]
) -> None:
    np.testing.assert_array_equal(decode(file(content), "gray", value_range).pixels, GRAY)


@pytest.mark.parametrize(
    ("content", "value_range", "reason"),
    [
        (tiff(FLOATS, 1, sample_format=3), None, "32-bit floating-point numbers: no value"),
        (tiff(GRAY.astype(np.int16), 1, sample_format=2), None, "16-bit signed integers: no value"),
        (tiff(GRAY.astype(np.uint32), 1), None, "32-bit integers: no value"),
        (tiff(FLOATS * np.nan, 1, sample_format=3), (0, 1), "NaN"),
        (tiff(FLOATS + np.inf, 1, sample_format=3), (0, 1), "infinite"),
        (png(RGB.astype(np.uint16)), (0, 4095), "16-bit colour: its upper 8 bits are read"),
        (tiff(RGB, 8), None, "CIE Lab"),
        (fits(GRAY.astype(">i2")), None, "FITS files are not read"),  # Pillow ignores BZERO
    ],
)  # fmt: skip
def test_refused_by_name(
    file: Callable[[bytes], Path],
    content: bytes,
    value_range: tuple[float, float] | None,
    reason: str,
) -> None:
    with pytest.raises(SkippedImageError, match=reason):
        decode(file(content), "gray", value_range)


def turned(kind: str) -> bytes:
    """Lies on its side, and says so.

    Pillow 13.0 reads such a TIFF with the wrong width if it opens the file itself and the pixels
    are one uncompressed strip: it maps them at the size that they have after turning.
    """
    if kind == "TIFF":
        return tiff(np.rot90(GRAY), 1, orientation=6)
    if kind == "16-bit TIFF, LZW":
        return saved(np.rot90(DEEP), "TIFF", compression="tiff_lzw", tiffinfo={274: 6})
    exif = Image.Exif()
    exif[0x0112] = 6
    lossless = {"quality": 100} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    return saved(np.rot90(GRAY), kind, exif=exif, **lossless)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "16-bit TIFF, LZW", "JPEG", "WEBP"])
def test_turned_upright_in_the_header_and_in_the_pixels(
    file: Callable[[bytes], Path], kind: str
) -> None:
    path = file(turned(kind))
    assert read_header(path).size == (12, 20)
    found = decode(path, "gray").pixels
    assert found.shape == (12, 20)
    assert np.abs(found.astype(int) - GRAY).max() <= (10 if kind == "JPEG" else 1)


def test_of_several_pages_the_first(file: Callable[[bytes], Path]) -> None:
    path = file(saved(GRAY, "TIFF", save_all=True, append_images=[Image.fromarray(255 - GRAY)]))
    found = decode(path, "gray")
    np.testing.assert_array_equal(found.pixels, GRAY)
    assert found.remarks == (FIRST_FRAME,)


def test_transparency_is_remarked_only_where_it_shows(file: Callable[[bytes], Path]) -> None:
    assert decode(file(png(np.dstack([GRAY, HALF]))), "gray").remarks == (ON_WHITE,)
    assert decode(file(png(np.dstack([GRAY, np.full_like(GRAY, 255)]))), "gray").remarks == ()


@pytest.mark.parametrize(
    ("values", "depth", "value_range", "expected"),
    [
        (GRAY, None, None, GRAY),
        (GRAY[..., None], None, None, GRAY),
        (np.stack([GRAY] * 3, -1), None, None, GRAY),
        (np.dstack([GRAY, GRAY, GRAY, HALF]), None, None, ON_PAPER),
        (HALF > 0, None, None, HALF),
        (DEEP, Depth(16), None, GRAY),
        (GRAY / 127.5 - 1, Depth(64, "float"), (-1, 1), GRAY),
    ],
)
def test_arrays_are_read_as_files_are(
    values: np.ndarray,
    depth: Depth | None,
    value_range: tuple[float, float] | None,
    expected: np.ndarray,
) -> None:
    found = decode_array(values, depth, "rgb", value_range)
    np.testing.assert_array_equal(found.pixels, np.stack([expected] * 3, -1))


NEARLY = np.stack([GRAY.clip(1, 254)] * 3, -1)
NEARLY[..., 0] += 1
TINTED = np.stack([GRAY // 2] * 3, -1)
TINTED[3, 4, 0] += 2


@pytest.mark.parametrize(
    ("content", "gray"),
    [
        (saved(GRAY, "PNG"), True),
        (png(DEEP), True),
        (saved(Image.fromarray(GRAY).convert("RGB"), "PNG"), True),
        (saved(Image.fromarray(GRAY).convert("RGB"), "JPEG"), True),
        (saved(Image.fromarray(GRAY).convert("P"), "PNG"), True),
        (saved(NEARLY, "PNG"), True),
        (saved(TINTED, "PNG"), False),
        (saved(RGB, "JPEG"), False),
        (saved(Image.fromarray(RGB).quantize(16), "PNG"), False),
    ],
    ids=[
        *("gray", "16-bit gray", "RGB PNG of grays", "RGB JPEG of grays", "palette of grays"),
        *("rounded", "one pixel by 2", "JPEG", "palette"),
    ],
)
def test_gray_but_for_rounding(file: Callable[[bytes], Path], content: bytes, gray: bool) -> None:
    assert survey(file(content), colors=True, spans=False).gray is gray


def test_signed_numbers_of_eight_bits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "signed.tif"
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(path, tiffinfo={339: 2})
    with pytest.raises(SkippedImageError, match="8-bit signed integers; save them unsigned"):
        decode(path, "gray", None, 8)
