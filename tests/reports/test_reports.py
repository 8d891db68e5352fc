from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from kod_bench.reports import (
    Panel,
    SweepReport,
    estimate,
    frame_of,
    make_content,
    read_frame,
    write_contact_sheet,
)
from kod_bench.reports.content import Group
from kod_bench.reports.markdown import to_markdown
from kod_bench.reports.terminal import comparison
from kod_bench.results import Row, grid_file, write_rows
from tests.rows import make_row


def groups(rows: list[Row]) -> tuple[Group, ...]:
    return make_content(frame_of(rows), title="study").groups


def markdown(rows: list[Row]) -> str:
    return to_markdown(make_content(frame_of(rows), title="study"))


def table_lines(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_models_stand_side_by_side_at_equal_steps() -> None:
    rows = [
        make_row(model=model, steps=steps, network_evaluations=steps, kid=kid)
        for model, steps, kid in [("ddpm", 100, 1.0), ("kuramoto", 25, 3.0), ("ddpm", 25, 2.0)]
    ]
    assert [line[:3] for line in table_lines(markdown(rows))[:6]] == [
        ["NFE", "Model", "KID"],
        ["--:", "-" * 16, "----------:"],
        ["", "real versus real", "0.010"],
        # One seed tells nothing apart; and what has no rival is not the best of anything.
        ["25", "ddpm", "**2.000 ~**"],
        ["25", "kuramoto", "3.000 ~"],
        ["100", "ddpm", "1.000"],
    ]


def test_samplers_and_skipped_steps_are_named_where_they_matter() -> None:
    rows = [
        make_row(model="ddpm", sampler="ddim", network_evaluations=50),
        make_row(model="ddpm", sampler="ancestral", network_evaluations=100),
        make_row(model="kuramoto", sampler="ancestral", network_evaluations=100),
    ]
    (group,) = groups(rows)
    assert [cell.label for cell in group.cells] == ["ddpm, ddim", "ddpm, ancestral", "kuramoto"]
    assert any("All models have T = 100." in note for note in group.notes)
    # Another T in the table: it is said where steps were skipped.
    (group,) = groups([*rows, make_row(model="kuramoto", steps=50, network_evaluations=50)])
    assert [cell.label for cell in group.cells] == [
        "ddpm, ddim, T=100",
        "kuramoto",
        "ddpm, ancestral, T=100",
        "kuramoto",
    ]
    assert not any("All models have" in note for note in group.notes)


def test_seeds_are_averaged_with_an_interval_from_three_on() -> None:
    two = markdown([make_row(seed=s, kid=k) for s, k in enumerate([1.0, 2.0])])
    assert " 1.500 |" in two
    assert "No interval where there are fewer than 3 seeds" in two
    three = markdown([make_row(seed=s, kid=k) for s, k in enumerate([1.0, 2.0, 3.0])])
    # 2 +- t(0.975, 2) / sqrt(3)
    assert "2.000 [-0.484, 4.484]" in three
    assert "95 % Student interval" in three
    assert "No interval" not in three


@pytest.mark.parametrize(
    "change",
    [
        {"features": "inception"},
        {"sample_count": 5000},
        {"real_count": 100},
        {"reference_count": 100},
        {"reference_hash": "other"},
        {"data_hash": "other"},
        {"image_size": 64},
    ],
)
def test_scores_that_cannot_be_compared_are_never_in_one_table(change: dict[str, object]) -> None:
    found = groups([make_row(), make_row(model="other", **change)])
    assert [len(group.cells) for group in found] == [1, 1]
    assert all(group.cells[0].kid.is_best for group in found)
    ((name, value),) = change.items()
    values = {"ddpm": getattr(make_row(), name), "other": value}
    for group in found:
        here = group.cells[0].model
        (there,) = values.keys() - {here}
        why = f"differ in {name} (here {values[here]}, also {values[there]}) are in tables of their"
        assert any(why in note for note in group.notes)


def test_few_samples_put_a_warning_under_fid() -> None:
    assert "FID at 256 samples is biased" in markdown([make_row()])
    assert "biased" not in markdown([make_row(sample_count=2048)])


def test_what_makes_a_comparison_uneven_is_said() -> None:
    rows = [make_row(), make_row(model="kuramoto", images_seen=1000, code_hash="other")]
    text = markdown(rows)
    assert "Training images drawn, at equal iterations and batch size: ddpm T=100 19200" in text
    assert "come from 2 versions of the code" in text
    text = markdown(rows[:1])
    assert "drawn" not in text
    assert "versions" not in text


def test_networks_of_other_sizes_and_precisions_are_named_under_the_table() -> None:
    rows = [
        make_row(),
        make_row(seed=1),
        make_row(model="wide", parameters=12_345_678, precision="bf16-compiled"),
        make_row(model="wide", seed=1, parameters=12_345_678, precision="fp32"),
        make_row(model="old", precision=None),
    ]
    notes = groups(rows)[0].notes
    assert (
        "The networks differ in size (trainable parameters): ddpm 12,345, old 12,345, "
        "wide 12,345,678." in notes
    )
    assert (
        "Arithmetic of training and sampling differs: ddpm fp32; old not recorded; "
        "wide bf16-compiled, fp32." in notes
    )
    text = markdown(rows[:2])
    assert "differ in size" not in text
    assert "Arithmetic" not in text


def test_no_rows_no_table() -> None:
    assert groups([]) == ()
    assert "0 trials" in markdown([])


def test_a_hostile_name_stays_in_its_cell() -> None:
    text = markdown([make_row(model="a | b\n| c")])
    assert "a \\| b \\| c" in text
    assert len(text.splitlines()) == len(markdown([make_row()]).splitlines())


def test_the_terminal_table_fits_80_columns() -> None:
    rows = [make_row(model="kuramoto-global", seed=s, kid=float(s), fid=700.0 + s) for s in (0, 1)]
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(comparison(groups(rows)[0]))
    text = console.export_text()
    assert "kuramoto-global" in text
    assert max(map(len, text.splitlines())) <= 80


def test_estimate_leaves_out_what_is_not_finite() -> None:
    assert estimate([1.0, float("nan"), 3.0]).mean == 2.0
    assert estimate([1.0, float("nan"), 3.0]).count == 2
    assert estimate([float("nan")]).mean is None


def test_the_sheet_of_a_sweep_has_a_column_per_model_and_a_line_per_count(tmp_path: Path) -> None:
    rows = [
        make_row(trial="a", model=m, sampler=s, steps=100, network_evaluations=n)
        for m, s in (("ddpm", "ddim"), ("kuramoto", "ancestral"))
        for n in (100, 50)
    ]
    rows.append(make_row(trial="b", model="ddpm", sampler="ddim", steps=50, network_evaluations=50))
    for trial in ("a", "b"):
        folder = tmp_path / "trials" / trial
        folder.mkdir(parents=True)
        write_rows(folder, [row for row in rows if row.trial == trial])
        for row in rows:
            name = grid_file(row.prior, row.sampler, row.network_evaluations)
            Image.new("L", (40, 40), 0).save(folder / name)
    read = read_frame(sorted(tmp_path.glob("trials/*/row.parquet")))
    content = make_content(read.rows, title="study")
    SweepReport(content, {"tiny/20260101-000000": tmp_path}).write(tmp_path / "report")
    # Columns: real (absent here), ddpm, kuramoto, and ddpm trained at T = 50. Lines: 50, 100.
    with Image.open(tmp_path / "report" / "samples.png") as sheet:
        assert sheet.size == (12 + 4 * 412, 12 + 2 * (40 + 26 + 12))
    assert "2 trials" in (tmp_path / "report" / "comparison.md").read_text()


def test_contact_sheet_places_panels(tmp_path: Path) -> None:
    for name, gray in (("black", 0), ("gray", 128)):
        Image.new("L", (64, 64), gray).save(tmp_path / f"{name}.png")
    panels = [
        Panel("one", tmp_path / "black.png", 0, 0),
        Panel("two", tmp_path / "gray.png", 1, 2),
    ]
    write_contact_sheet(tmp_path / "sheet.png", panels)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    height, width = sheet.shape
    assert sheet[height // 4, width // 12] in (0, 255)
    assert (sheet == 0).sum() >= 64 * 64
    assert (sheet[height // 2 :, 2 * width // 3 :] == 128).sum() >= 64 * 64
    assert height < 300, "rows are as high as their pictures"
    with pytest.raises(ValueError, match="at least one"):
        write_contact_sheet(tmp_path / "none.png", [])


@pytest.mark.parametrize("title", ["strength=0.03 " * 8, "w" * 150])
def test_long_titles_of_a_contact_sheet_stay_over_their_pictures(
    tmp_path: Path, title: str
) -> None:
    Image.new("L", (400, 64), 128).save(tmp_path / "gray.png")
    panels = [Panel(text, tmp_path / "gray.png", 0, x) for x, text in enumerate((title, "b", "c"))]
    write_contact_sheet(tmp_path / "sheet.png", panels)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    for left in (12 + 400, 12 + 812):  # the gaps beside the columns
        assert (sheet[:, left : left + 12] == 255).all()
    assert (sheet[:, 12:412] < 128).sum() > 100  # the title is there ...
    assert (sheet[-12 - 64 : -12, 12:412] == 128).all()  # ... not on the picture
