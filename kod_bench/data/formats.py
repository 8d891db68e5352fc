"""Which files are images, by suffix or by how they begin, and which of them can be read."""

import contextlib
import functools
import importlib
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Literal

from PIL import Image

#: "image" can be read; "unread" looks like an image and cannot; "" is something else.
Kind = Literal["image", "unread", ""]

HEAD_BYTES = 132  # DICOM's mark ends there

# What Pillow names and draws no pixel of, or only with another program's help; and FITS, of which
# it leaves out the scale that says what the numbers mean (BZERO, BSCALE).
_NO_PICTURES = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "WMF"}

# Images all the same. Of raw photographs Pillow reads a thumbnail, as if it were the image.
# fmt: off
_IMAGE_SUFFIXES = (
    ".avif", ".emf", ".eps", ".exr", ".fit", ".fits", ".hdr", ".heic", ".heif", ".jp2", ".jxl",
    ".jxr", ".ktx", ".pam", ".ps", ".svg", ".wmf", ".wsq", ".xcf",
    ".arw", ".cr2", ".cr3", ".crw", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2",
    ".dcm", ".dicom", ".mha", ".mrc", ".nii", ".nrrd", ".czi", ".lif", ".nd2",
)
# fmt: on

# No images, and often as many as there are images: on a shared disk, opening each takes long.
# fmt: off
_OTHER_SUFFIXES = (
    ".bz2", ".csv", ".gz", ".h5", ".hdf5", ".html", ".ini", ".json", ".jsonl", ".log", ".mat",
    ".md", ".npy", ".npz", ".parquet", ".pdf", ".pkl", ".pt", ".pth", ".py", ".safetensors", ".tar",
    ".tsv", ".txt", ".xml", ".yaml", ".yml", ".zip",
)
# fmt: on

# (offset, bytes, Pillow's format or "" where it has none). BMP, PNM: see `_begins_as`.
_MARKS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (8, b"WEBP", "WEBP"),
    (4, b"jP  \r\n\x87\n", "JPEG2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG2000"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphei", ""),
    (4, b"ftypmif1", ""),
    (0, b"\xff\xa0\xff", "WSQ"),
    (0, b"\x59\xa6\x6a\x95", "SUN"),
    (0, b"8BPS", "PSD"),
    (0, b"qoif", "QOI"),
    (0, b"\xff\x0a\xff", ""),  # a JPEG XL codestream, and its container
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", ""),
    (0, b"\x76\x2f\x31\x01", ""),  # OpenEXR
    (128, b"DICM", ""),
)


@functools.cache
def _readable() -> tuple[frozenset[str], frozenset[str]]:
    """The suffixes and the formats that can be read here: what Pillow has, and WSQ."""
    with contextlib.suppress(ImportError):  # an extra; its import adds the format to Pillow's
        importlib.import_module("wsq")
    suffixes = Image.registered_extensions().items()  # which has Pillow load its formats
    formats = frozenset(Image.OPEN) - _NO_PICTURES
    return frozenset(suffix for suffix, name in suffixes if name in formats), formats


def image_suffixes() -> tuple[str, ...]:
    """The suffixes, in lower case, of what can be read."""
    return tuple(sorted(_readable()[0]))


def has_format(name: str | None) -> bool:
    """Whether a format that Pillow recognised is one whose pixels it reads rightly."""
    return name is not None and name not in _NO_PICTURES


def kind_of(path: PurePosixPath, head: Callable[[], bytes]) -> Kind:
    """What a file is.

    Args:
        path: Its name; a suffix that belongs to images decides.
        head: Its first `HEAD_BYTES`, or b"" if they cannot be had; asked for only if the suffix
            says nothing.
    """
    suffix = path.suffix.lower()
    suffixes, formats = _readable()
    if suffix in suffixes:
        return "image"
    if suffix in _IMAGE_SUFFIXES:
        return "unread"
    if suffix in _OTHER_SUFFIXES:
        return ""
    found = _begins_as(head())
    if found is None:
        return ""
    return "image" if found in formats else "unread"


def how_to_read(name: str) -> str:
    """What a user can do about an image that is not read."""
    return ' (pip install "kod-bench[wsq]")' if name.lower().endswith(".wsq") else ""


def _begins_as(head: bytes) -> str | None:
    for offset, mark, name in _MARKS:
        if head[offset : offset + len(mark)] == mark:
            return name
    if head[:2] == b"BM" and head[6:10] == bytes(4) and len(head) > 26:  # texts may begin so
        return "BMP"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in (b"\n", b" ", b"\t"):
        return "PPM" if head[2:].lstrip()[:1].isdigit() or head[2:].lstrip()[:1] == b"#" else None
    return None
