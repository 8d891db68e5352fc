"""Numbers of more than 8 bits, or with a fraction => 8 bits, 0 black to 255 white.

Integers have a white of their own: the largest that their bits can hold. Their upper 8 bits are
kept, as Pillow, libpng and ImageMagick do. Whatever fills only a part of that range, and whatever
has no white at all (floating point, signed and 32-bit integers), needs to be told its range.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kod_bench.data.files import SkippedImageError

#: The values that become 0 and 255.
ValueRange = tuple[float, float]

OPTION = "value_range"


@dataclass(frozen=True)
class Depth:
    """What one number of an image is.

    Attributes:
        bits: Of a number.
        kind: Its type.
        colour: Whether Pillow gives the upper 8 bits alone, as of 16-bit RGB.
        white: The largest value that the file allows, where it says so itself, as PNM does.
    """

    bits: int
    kind: Literal["unsigned", "signed", "float"] = "unsigned"
    colour: bool = False
    white: int | None = None

    @property
    def highest(self) -> int:
        """What unsigned integers can reach."""
        return 2**self.bits - 1 if self.white is None else self.white

    @property
    def has_white(self) -> bool:
        """Whether the type itself says what is white."""
        return self.kind == "unsigned" and self.bits <= 16

    def __str__(self) -> str:
        after = {
            "unsigned": "integers",
            "signed": "signed integers",
            "float": "floating-point numbers",
        }
        return f"{self.bits}-bit {after[self.kind]}"


@dataclass(frozen=True)
class Span:
    """The lowest and the highest value of an image, in its own units."""

    depth: Depth
    lowest: float
    highest: float


def span_of(values: NDArray[Any], depth: Depth) -> Span:
    """The span of an image's values.

    Raises:
        SkippedImageError: Some are not finite.
    """
    lowest, highest = float(values.min()), float(values.max())
    if not np.isfinite([lowest, highest]).all():  # NaN is the lowest and the highest, if present
        raise SkippedImageError("values that are NaN or infinite")
    return Span(depth, lowest, highest)


def check_range(depth: Depth, value_range: ValueRange | None) -> None:
    """Refuse numbers of which nothing says what is white.

    Raises:
        SkippedImageError: They have no range of their own and are given none; or are given one, and
            only their upper bits are known.
    """
    if value_range is None and not depth.has_white:
        raise SkippedImageError(
            f"{depth}: no value is known to be white; {OPTION} (LOW and HIGH, or auto) says it"
        )
    if value_range is not None and depth.colour:
        raise SkippedImageError(
            f"{depth.bits}-bit colour: its upper 8 bits are read; {OPTION} needs gray"
        )


def to_bytes(
    values: NDArray[Any], depth: Depth, value_range: ValueRange | None
) -> NDArray[np.uint8]:
    """Numbers => uint8, clipped to the range.

    Integers v in a range of whole numbers [a, b] fall into 256 equally wide bins,
    floor(256 (v - a) / (b - a + 1)): of [0, 2^n - 1] these are the upper 8 of n bits. Others are
    rounded, floor(255 (v - a) / (b - a) + 1/2), as pictures in [0, 1] and [-1, 1] are usually
    saved.

    Args:
        values: Any shape.
        depth: Of the numbers.
        value_range: [a, b]; None for the type's own range.

    Raises:
        SkippedImageError: As of `check_range`.
    """
    check_range(depth, value_range)
    low, high = value_range or (0, depth.highest)
    clipped = np.clip(values.astype(np.float64), low, high)
    if depth.kind != "float" and float(low).is_integer() and float(high).is_integer():
        scaled = np.floor((clipped - low) * (256 / (high - low + 1)))
    else:
        scaled = np.floor((clipped - low) * (255 / (high - low)) + 0.5)
    return scaled.astype(np.uint8)


def depth_of_array(dtype: np.dtype[Any]) -> Depth | None:
    """Of a NumPy array's numbers; None for uint8 and bool.

    Raises:
        SkippedImageError: They are no real numbers.
    """
    if dtype.kind not in "biuf":
        raise SkippedImageError(f"values of type {dtype}; needs real numbers")
    if dtype in (np.uint8, np.bool_):
        return None
    kinds: dict[str, Literal["unsigned", "signed", "float"]] = {
        "u": "unsigned",
        "i": "signed",
        "f": "float",
    }
    return Depth(8 * dtype.itemsize, kinds[dtype.kind])


def depth_notes(spans: Sequence[Span], value_range: ValueRange | None) -> tuple[str, ...]:
    """What a user should know of the depths of a set of images, in lines.

    Args:
        spans: Of those of more than 8 bits, or in floating point.
        value_range: By which they were read.
    """
    if not spans:
        return () if value_range is None else (f"{OPTION} changes nothing: all images have 8 bits",)
    if value_range is not None:
        low, high = value_range
        outside = sum(span.lowest < low or span.highest > high for span in spans)
        if not outside:
            return ()
        return (
            f"clipped values outside {OPTION} [{low:g}, {high:g}] in {_images(outside)}; there are "
            f"values from {min(s.lowest for s in spans):g} to {max(s.highest for s in spans):g}",
        )
    notes = []
    for depth in dict.fromkeys(span.depth for span in spans):
        alike = [span for span in spans if span.depth == depth]
        highest = round(max(span.highest for span in alike))
        used = max(highest.bit_length(), 1)
        if used < depth.highest.bit_length():
            levels = highest * 256 // (depth.highest + 1) + 1
            upper = "the upper 8 bits of " if depth.colour else ""
            notes.append(
                f"{_images(len(alike))} of {depth.bits} bits reach no more than {highest} "
                f"({used} bits): {upper}they are read as at most {levels} gray levels; "
                + (
                    f"save them in 8 bits, or in gray with {OPTION}"
                    if depth.colour
                    else f"{OPTION} [0, {2**used - 1}] or auto scales them"
                )
            )
    return tuple(notes)


def _images(count: int) -> str:
    return f"{count} image{'s' if count != 1 else ''}"
