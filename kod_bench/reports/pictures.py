"""Pictures of samples, side by side."""

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
    rows = 1 + max(panel.row for panel in panels)
    columns = 1 + max(panel.column for panel in panels)
    size = (_GAP + columns * (_SIDE + _GAP), _GAP + rows * (_SIDE + _TITLE + _GAP))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    for panel in panels:
        left = _GAP + panel.column * (_SIDE + _GAP)
        top = _GAP + panel.row * (_SIDE + _TITLE + _GAP)
        draw.text((left, top), panel.title, fill="black", font=font)
        with Image.open(panel.path) as picture:
            picture.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
            sheet.paste(picture.convert("RGB"), (left, top + _TITLE))
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")
