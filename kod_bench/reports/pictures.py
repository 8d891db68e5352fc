"""Pictures of samples, side by side."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from kod_bench.atomic import atomic_write

_SIDE = 400
_GAP = 12
_LINE = 26  # of a title, with the space below
_FONT_SIZE = 16


@dataclass(frozen=True)
class Panel:
    """One picture with its title, placed at (row, column) of the sheet."""

    title: str
    path: Path
    row: int
    column: int


def write_contact_sheet(path: Path, panels: Sequence[Panel]) -> None:
    """Paste pictures into one PNG, each under its title.

    Raises:
        ValueError: if there are no panels.
    """
    if not panels:
        raise ValueError("a contact sheet needs at least one picture")
    font = ImageFont.load_default(size=_FONT_SIZE)
    rows = 1 + max(panel.row for panel in panels)
    heights = [1] * rows  # those of the highest pictures
    titles = [_LINE] * rows
    wrapped = [_wrap(panel.title, font) for panel in panels]
    for panel, lines in zip(panels, wrapped, strict=True):
        titles[panel.row] = max(titles[panel.row], len(lines) * _LINE)
        with Image.open(panel.path) as picture:
            width, height = picture.size
        fits = min(1.0, _SIDE / width, _SIDE / height)
        heights[panel.row] = max(heights[panel.row], round(height * fits))
    each = (title + height + _GAP for title, height in zip(titles, heights, strict=True))
    tops = list(itertools.accumulate(each, initial=_GAP))
    columns = 1 + max(panel.column for panel in panels)
    sheet = Image.new("RGB", (_GAP + columns * (_SIDE + _GAP), tops[-1]), "white")
    draw = ImageDraw.Draw(sheet)
    for panel, lines in zip(panels, wrapped, strict=True):
        left = _GAP + panel.column * (_SIDE + _GAP)
        top = tops[panel.row] + titles[panel.row]
        for number, line in enumerate(lines):  # the last one is next to the picture
            place = (left, top - (len(lines) - number) * _LINE)
            draw.text(place, line, fill="black", font=font)
        with Image.open(panel.path) as picture:
            picture.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
            sheet.paste(picture.convert("RGB"), (left, top))
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")


def _wrap(title: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """The title in lines no wider than a picture, broken between words or, if need be, in one."""
    lines = [""]
    for word in title.split():
        if lines[-1] and font.getlength(f"{lines[-1]} {word}") > _SIDE:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
        while font.getlength(lines[-1]) > _SIDE:
            fits = next(
                n for n in range(len(lines[-1]), 0, -1) if font.getlength(lines[-1][:n]) <= _SIDE
            )
            lines[-1:] = [lines[-1][:fits], lines[-1][fits:]]
    return lines
