"""Image files that Pillow reads and does not write, byte by byte from their specifications."""

import struct
import zlib

import numpy as np

_SHORT, _LONG = 3, 4


def tiff(
    pixels: np.ndarray,
    photometric: int,
    *,
    bits: int | None = None,
    sample_format: int = 1,
    extra_samples: int | None = None,
    orientation: int | None = None,
    order: str = "<",
) -> bytes:
    """An uncompressed TIFF 6.0 of one strip.

    Args:
        pixels: (H, W) or (H, W, C).
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 5 CMYK, 8 CIE Lab.
        bits: of a sample; the array's own, or 12, which are packed.
        sample_format: 1 unsigned, 2 signed, 3 floating point.
        extra_samples: what the last channel is: 1 premultiplied alpha, 2 alpha.
        orientation: as in EXIF.
        order: "<" or ">".
    """
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    bits = bits or 8 * pixels.dtype.itemsize
    if bits == 12:
        pairs = pixels.astype(np.uint32).reshape(-1, 2)
        packed = pairs[:, 0] << 12 | pairs[:, 1]
        data = b"".join(int(value).to_bytes(3, "big") for value in packed)
    else:
        data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    tags: list[tuple[int, int, tuple[int, ...]]] = [
        (256, _LONG, (width,)),
        (257, _LONG, (height,)),
        (258, _SHORT, (bits,) * channels),
        (259, _SHORT, (1,)),
        (262, _SHORT, (photometric,)),
        (273, _LONG, (0,)),  # where the pixels are: filled in below
        *([(274, _SHORT, (orientation,))] if orientation else []),
        (277, _SHORT, (channels,)),
        (278, _LONG, (height,)),
        (279, _LONG, (len(data),)),
        (284, _SHORT, (1,)),
        *([(338, _SHORT, (extra_samples,))] if extra_samples else []),
        (339, _SHORT, (sample_format,) * channels),
    ]
    after = 8 + 2 + 12 * len(tags) + 4
    long_values = b""
    entries = b""
    start = after + sum(2 * len(v) for _, kind, v in tags if kind == _SHORT and len(v) > 2)
    for tag, kind, values in tags:
        if tag == 273:
            values = (start,)
        packed_values = struct.pack(
            f"{order}{len(values)}{'H' if kind == _SHORT else 'I'}", *values
        )
        if len(packed_values) > 4:
            offset = after + len(long_values)
            long_values += packed_values
            packed_values = struct.pack(f"{order}I", offset)
        entries += struct.pack(f"{order}HHI", tag, kind, len(values))
        entries += packed_values.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return head + directory + long_values + data


def png(pixels: np.ndarray, *, transparent: int | None = None) -> bytes:
    """A PNG of 8 or 16 bits: (H, W) gray, (H, W, 2) gray with alpha, (H, W, 3) RGB, 4 RGBA."""
    height, width = pixels.shape[:2]
    color = {1: 0, 2: 4, 3: 2, 4: 6}[1 if pixels.ndim == 2 else pixels.shape[2]]
    bits = 8 * pixels.dtype.itemsize
    rows = pixels.astype(pixels.dtype.newbyteorder(">"))
    body = b"".join(b"\0" + rows[y].tobytes() for y in range(height))

    def chunk(kind: bytes, content: bytes) -> bytes:
        size, check = struct.pack(">I", len(content)), zlib.crc32(kind + content)
        return size + kind + content + struct.pack(">I", check)

    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)),
            b"" if transparent is None else chunk(b"tRNS", struct.pack(">H", transparent)),
            chunk(b"IDAT", zlib.compress(body)),
            chunk(b"IEND", b""),
        ]
    )


def fits(pixels: np.ndarray) -> bytes:
    """A FITS image of 16-bit signed integers, which stand for themselves plus 32,768."""
    height, width = pixels.shape
    cards = {"SIMPLE": "T", "BITPIX": "16", "NAXIS": "2", "NAXIS1": width, "NAXIS2": height}
    lines = [f"{key:8}= {value:>20}" for key, value in (cards | {"BZERO": "32768"}).items()]
    header = "".join(line.ljust(80) for line in [*lines, "END"]).ljust(2880).encode()
    return header + pixels.tobytes().ljust(2880, b"\0")
