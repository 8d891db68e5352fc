"""Angles as colours: the hue goes round once, so that no colour marks the cut at pi.

0 is red, 2 pi / 3 green, -2 pi / 3 blue. Pictures have vortices marked, white where the winding is
positive and black where it is negative, each with a rim of the other, and the wheel as legend.
"""

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

from kod_bench.atomic import atomic_write
from kod_bench.evaluation.angles import vortices
from kod_bench.evaluation.lettering import wrapped_lines

_GAP = 4  # pixels between fields
_LEAST = 512  # pixels; pictures are enlarged to at least this width ...
_FIELD = 128  # ... and each field to this: marks of a pair, a site apart, must not hide each other
LEGEND_HEIGHT = 96  # pixels; the wheel's side
_LETTERS = 14  # pixels of its font
_RADIUS = 3  # pixels of a mark at least, without its rim

#: What is written beside the wheel.
NOTE = "hue: the angle, 0 to the right; white dot: vortex, black dot: antivortex"
#: With a larger share of plaquettes marked, marks hide the field; in noise it is a third.
MOST_MARKED = 0.05


def colour_wheel(angles: Tensor) -> Tensor:
    """(N, 1, H, W) radians -> (N, 3, H, W) uint8 on the CPU: the colour of full saturation.

    Raises:
        ValueError: if there is more than one channel.
    """
    if angles.ndim != 4 or angles.shape[1] != 1:
        raise ValueError(f"fields of angles must be (N, 1, H, W), got {tuple(angles.shape)}")
    # Hue in sixths of the circle; each primary is full within one sixth of itself, off beyond two.
    hue = angles.cpu().float() / (math.pi / 3)
    primaries = torch.tensor([0.0, 2.0, 4.0]).reshape(1, 3, 1, 1)
    away = ((hue - primaries + 3) % 6 - 3).abs()
    return ((2 - away).clamp(0, 1) * 255).round().to(torch.uint8)


def write_wheels(path: Path, angles: Tensor, columns: int | None = None) -> None:
    """Write a PNG of fields in colours, about square, with vortices and a legend.

    Args:
        path: of the PNG.
        angles: (N, 1, H, W) radians.
        columns: of the grid; None for about square.

    Raises:
        OSError: if it cannot be written.
    """
    sheet = wheels(angles, columns)
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")


def wheels(angles: Tensor, columns: int | None = None) -> Image.Image:
    """Fields in colours on a grid, their vortices marked, the wheel below them.

    Args:
        angles: (N, 1, H, W) radians.
        columns: of the grid; None for about square.
    """
    count, _, height, width = angles.shape
    columns = columns or max(1, math.ceil(math.sqrt(count * height / width)))
    scale = max(math.ceil(_LEAST / (columns * width)), field_scale(width))
    rows = math.ceil(count / columns)
    size = (
        columns * (scale * width + _GAP) + _GAP,
        rows * (scale * height + _GAP) + _GAP + LEGEND_HEIGHT + _GAP,
    )
    sheet = Image.new("RGB", size, (128, 128, 128))
    for place, field in enumerate(angles):
        row, column = divmod(place, columns)
        corner = (_GAP + column * (scale * width + _GAP), _GAP + row * (scale * height + _GAP))
        sheet.paste(draw_field(field, scale), corner)
    below = legend(size[0] - 2 * _GAP, paper="#808080", ink="white")
    sheet.paste(below, (_GAP, size[1] - LEGEND_HEIGHT - _GAP))
    return sheet


def field_scale(width: int) -> int:
    """The least whole factor at which marks of a field so wide tell where they are, and which."""
    return max(2, math.ceil(_FIELD / width))


def draw_fields(fields: Tensor, scale: int, most: float = MOST_MARKED) -> list[Image.Image]:
    """Fields, (N, 1, H, W) radians; vortices are marked unless more of all plaquettes have one."""
    marked = float((vortices(fields.cpu()) != 0).double().mean()) <= most
    return [draw_field(field, scale, marked) for field in fields]


def draw_field(field: Tensor, scale: int, marked: bool = True) -> Image.Image:
    """One field, (1, H, W) radians, enlarged by a whole factor, its vortices marked."""
    colours = colour_wheel(field[None])[0].permute(1, 2, 0).numpy()
    picture = Image.fromarray(colours)
    picture = picture.resize(
        (scale * picture.width, scale * picture.height), Image.Resampling.NEAREST
    )
    if not marked:
        return picture
    draw = ImageDraw.Draw(picture)
    radius = max(_RADIUS, round(0.4 * scale))
    winding = vortices(field[0].cpu())
    # Where four sites meet: between the pixels x - 1 and x.
    marks = [
        (scale * (column + 1), scale * (row + 1), int(winding[row, column]) > 0)
        for row, column in winding.nonzero().tolist()
    ]
    for reach, inside in ((radius + radius // 3, False), (radius, True)):  # no rim on a neighbour
        for x, y, positive in marks:
            colour = "white" if positive == inside else "black"
            draw.ellipse((x - reach, y - reach, x + reach - 1, y + reach - 1), colour)
    return picture


def legend(width: int, paper: str = "white", ink: str = "black") -> Image.Image:
    """What colours and dots mean, (LEGEND_HEIGHT, width): the wheel, and beside it `NOTE`."""
    strip = Image.new("RGB", (width, LEGEND_HEIGHT), paper)
    strip.paste(_wheel(LEGEND_HEIGHT, paper))
    font, left = ImageFont.load_default(size=_LETTERS), LEGEND_HEIGHT + 2 * _GAP
    lines = wrapped_lines(NOTE, font, max(1, width - left))
    line_height = _LETTERS + _GAP
    top = max(0, (LEGEND_HEIGHT - line_height * len(lines)) // 2)
    for number, line in enumerate(lines):
        ImageDraw.Draw(strip).text((left, top + number * line_height), line, ink, font)
    return strip


def _wheel(side: int, around: str) -> Image.Image:
    """The colour of each direction from its middle, 0 to the right, pi / 2 upwards."""
    middle = (side - 1) / 2
    rows, columns = np.indices((side, side))
    x, y = columns - middle, middle - rows
    angle = torch.from_numpy(np.arctan2(y, x).astype(np.float32))[None, None]
    colours: NDArray[np.uint8] = colour_wheel(angle)[0].permute(1, 2, 0).numpy().copy()
    distance = np.hypot(x, y)
    colours[(distance > middle) | (distance < middle / 2)] = ImageColor.getrgb(around)
    return Image.fromarray(colours)
