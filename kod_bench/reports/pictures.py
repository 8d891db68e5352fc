"""Pictures of samples, side by side."""

import io
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from kod_bench.atomic import atomic_write
from kod_bench.errors import one_line
from kod_bench.evaluation.colour_wheel import LEGEND_HEIGHT, legend
from kod_bench.evaluation.lettering import wrapped_lines
from kod_bench.reports.picture_files import read_first_fields, read_picture

_SIDE = 400
_GAP = 12
_LINE = 26  # of a title, with the space below
_FONT_SIZE = 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Panel:
    """One picture with its title, placed at (row, column) of the sheet.

    Of a grid of fields of angles (`of_angles`) the first fields are shown, the whole of others.
    """

    title: str
    path: Path
    row: int
    column: int
    of_angles: bool = False


def write_contact_sheet(path: Path, panels: Sequence[Panel]) -> None:
    """Paste pictures into one PNG, each under its title; those that cannot be read are left out.

    Raises:
        ValueError: if there are no panels.
    """
    if not panels:
        raise ValueError("a contact sheet needs at least one picture")
    loaded = [(panel, picture) for panel in panels if (picture := _shown(panel))]
    if not loaded:
        return
    font = ImageFont.load_default(size=_FONT_SIZE)
    rows = 1 + max(panel.row for panel, _ in loaded)
    heights = [1] * rows  # those of the highest pictures
    titles = [_LINE] * rows
    wrapped = [wrapped_lines(panel.title, font, _SIDE) for panel, _ in loaded]
    for (panel, picture), lines in zip(loaded, wrapped, strict=True):
        titles[panel.row] = max(titles[panel.row], len(lines) * _LINE)
        heights[panel.row] = max(heights[panel.row], picture.height)
    each = (title + height + _GAP for title, height in zip(titles, heights, strict=True))
    tops = list(itertools.accumulate(each, initial=_GAP))
    columns = 1 + max(panel.column for panel, _ in loaded)
    of_angles = any(panel.of_angles for panel, _ in loaded)
    bottom = tops[-1] + (LEGEND_HEIGHT + _GAP if of_angles else 0)
    sheet = Image.new("RGB", (_GAP + columns * (_SIDE + _GAP), bottom), "white")
    draw = ImageDraw.Draw(sheet)
    if of_angles:
        sheet.paste(legend(sheet.width - 2 * _GAP), (_GAP, tops[-1]))
    for (panel, picture), lines in zip(loaded, wrapped, strict=True):
        left = _GAP + panel.column * (_SIDE + _GAP)
        top = tops[panel.row] + titles[panel.row]
        for number, line in enumerate(lines):  # the last one is next to the picture
            place = (left, top - (len(lines) - number) * _LINE)
            draw.text(place, line, fill="black", font=font)
        sheet.paste(picture, (left, top))
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")


def _shown(panel: Panel) -> Image.Image | None:
    if panel.of_angles:
        return read_first_fields(panel.path, _SIDE)
    if (content := read_picture(panel.path)) is None:
        return None
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:  # sound outside, broken inside
        _log.warning("%s: is left out (%s)", panel.path, one_line(error))
        return None
