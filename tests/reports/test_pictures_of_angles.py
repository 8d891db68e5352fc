"""Vortices in what a report shows of samples."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kod_bench.evaluation import write_wheels
from kod_bench.reports import SweepReport, make_content, read_frame
from kod_bench.reports.contact_sheet import write_dataset_sheet
from kod_bench.reports.picture_files import first_fields
from kod_bench.results import REAL_FILE, grid_file, write_rows
from tests.fields import mark_at, with_pair
from tests.rows import make_row

#: Pixels from a field to the next, and of a site; where `with_pair` has its marks.
PITCH, SITE = 132, 4
MARKS = {"+": (9 * SITE, 8 * SITE), "-": (21 * SITE, 22 * SITE)}


def marks_of(picture: Image.Image, left: int, top: int) -> list[str]:
    """Signs of the marks of nine fields, where they have to be."""
    corners = [(left + PITCH * i, top + PITCH * j) for j in range(3) for i in range(3)]
    return [mark_at(picture, x + dx, y + dy) for x, y in corners for dx, dy in MARKS.values()]


def test_a_report_on_angles_shows_vortices_of_both_signs(tmp_path: Path) -> None:
    row = make_row(correlation_distance=0.02, correlation_distance_real=0.001)
    folder = tmp_path / "trials" / row.trial
    folder.mkdir(parents=True)
    path = write_rows(folder, [row])
    name = grid_file(row.prior, row.sampler, row.network_evaluations)
    for place in (tmp_path / REAL_FILE, folder / name):
        write_wheels(place, with_pair().repeat(64, 1, 1, 1))
    content = make_content(read_frame([path]).rows, title="spins")
    SweepReport(content, {f"{row.space}/{row.sweep}": tmp_path}).write(tmp_path / "out", False)

    with Image.open(tmp_path / "out" / "samples.png") as sheet:
        for left in (12, 12 + 412):  # real fields, samples
            assert marks_of(sheet, left, 12 + 26) == ["+", "-"] * 9
        assert sheet.height == 12 + 26 + 392 + 12 + 96 + 12  # with the wheel
    assert (tmp_path / "out" / "samples.png").stat().st_size < 200_000

    page = (tmp_path / "out" / "report.html").read_text()
    shown = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    assert len(shown) == 2
    for each in shown:
        with Image.open(io.BytesIO(base64.b64decode(each))) as picture:
            assert picture.size == (392, 392)
            assert marks_of(picture, 0, 0) == ["+", "-"] * 9
    assert "A white dot is a vortex" in page


def test_a_contact_sheet_of_a_data_set_shows_them_too(tmp_path: Path) -> None:
    fields = with_pair().repeat(50, 1, 1, 1)
    sides = [("training", fields), ("test", fields)]
    write_dataset_sheet(tmp_path / "sheet.png", "spins", sides)
    with Image.open(tmp_path / "sheet.png") as sheet:
        for place in range(36):  # fewer than there are, so that each is large enough
            row, column = divmod(place, 6)
            left, top = 16 + 1 + 130 * column, 2 * 28 + 4 + 1 + 130 * row
            found = [mark_at(sheet, left + x, top + y) for x, y in MARKS.values()]
            assert found == ["+", "-"]


@pytest.mark.parametrize(
    ("count", "side", "expected"),
    [
        (64, 32, (392, 392)),  # 3 x 3 of 8 x 8
        (2, 32, (256, 256)),  # the first of two, drawn larger
        (4, 400, (400, 400)),  # a part of one
    ],
)
def test_whole_fields_are_cut_out(
    tmp_path: Path, count: int, side: int, expected: tuple[int, int]
) -> None:
    write_wheels(tmp_path / "grid.png", torch.zeros(count, 1, side, side))
    found = first_fields((tmp_path / "grid.png").read_bytes(), 400)
    assert found.size == expected
    colours = {tuple(pixel) for pixel in np.asarray(found).reshape(-1, 3)}
    assert colours <= {(255, 0, 0), (128, 128, 128)}  # nothing of the legend


@pytest.mark.parametrize("gray", [0, 128])
def test_what_is_no_grid_of_fields_is_cut(tmp_path: Path, gray: int) -> None:
    Image.new("L", (900, 300), gray).save(tmp_path / "other.png")
    assert first_fields((tmp_path / "other.png").read_bytes(), 400).size == (400, 300)
