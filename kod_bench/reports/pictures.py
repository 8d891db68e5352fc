"""Pictures of samples, side by side."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from kod_bench.atomic import atomic_write

_SIDE = 400
_GAP = 12
_TITLE = 26


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
    heights = [1] * (1 + max(panel.row for panel in panels))  # those of the highest pictures
    for panel in panels:
        with Image.open(panel.path) as picture:
            width, height = picture.size
        fits = min(1.0, _SIDE / width, _SIDE / height)
        heights[panel.row] = max(heights[panel.row], round(height * fits))
    tops = list(itertools.accumulate((each + _TITLE + _GAP for each in heights), initial=_GAP))
    columns = 1 + max(panel.column for panel in panels)
    sheet = Image.new("RGB", (_GAP + columns * (_SIDE + _GAP), tops[-1]), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    for panel in panels:
        left = _GAP + panel.column * (_SIDE + _GAP)
        top = tops[panel.row]
        draw.text((left, top), panel.title, fill="black", font=font)
        with Image.open(panel.path) as picture:
            picture.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
            sheet.paste(picture.convert("RGB"), (left, top + _TITLE))
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")
