"""Likelihoods in reports: shown with their unit, beside models that have none, and not marked."""

from pathlib import Path

import pandas as pd

from kod_bench.reports.evidence import marked_metrics
from kod_bench.reports.figures.from_content import content_figures
from kod_bench.reports.frame import frame_of
from kod_bench.reports.groups import make_groups
from kod_bench.reports.latex import to_latex
from kod_bench.reports.layout import comparison_table, difference_tables
from kod_bench.reports.make import make_content
from kod_bench.reports.tables import write_tables
from kod_bench.results import Row
from tests.rows import make_row

BITS = {"heat": 5.0, "ddpm": 4.0, "kuramoto": None}
KINDS = {"heat": "structured", "ddpm": "euclidean", "kuramoto": "structured"}


def rows(bits: dict[str, float | None] = BITS, samples: int = 4096) -> list[Row]:
    return [
        make_row(
            model=model,
            process=model,
            kind=KINDS[model],
            trial=f"{model}-{seed}",
            seed=seed,
            steps=100,
            network_evaluations=evaluations,
            sample_count=samples,
            kid=1.0 + 0.01 * seed,
            bits_per_dimension=None if value is None else value + 0.01 * seed,
            bits_per_dimension_error=None if value is None else 0.02,
            likelihood_images=None if value is None else 64,
            likelihood_evaluations=None if value is None else 199,
            likelihood_method="evidence bound" if model == "heat" else "probability flow",
        )
        for model, value in bits.items()
        for seed in range(4)
        for evaluations in (100, 25)
    ]


def test_bits_are_a_column_with_direction_unit_error_and_no_marks() -> None:
    (group,) = make_groups(frame_of(rows()))
    table = comparison_table(group)
    assert table.columns[:5] == ("NFE", "Model", "KID", "FID", "Bits/dim")
    real, *lines = [[cell.text for cell in line] for line in table.lines]
    assert real[4] == "n/a"
    assert [line[4].split()[0] for line in lines if line[1] == "ddpm"] == ["4.015"] * 2
    assert [line[4] for line in lines if line[1] == "kuramoto"] == ["n/a"] * 2
    assert not any(cell.bold for line in table.lines for cell in line[4:5])
    (note,) = (note for note in group.notes if note.startswith("Bits/dim"))
    assert "in bits per dimension of 64 held-out images" in note
    assert "of heat by the evidence bound" in note
    assert "standard error at most 0.02. Lower is better" in note
    assert not any("bits per dimension" in sentence for sentence in group.verdict)
    assert "bits_per_dimension" not in marked_metrics(frame_of(rows()), group.metrics)


def test_differences_are_of_those_that_have_one() -> None:
    (group,) = make_groups(frame_of(rows()))
    ((_, table),) = difference_tables(group, "bits_per_dimension")
    texts = [[cell.text for cell in line] for line in table.lines]
    assert [(line[1], line[2]) for line in texts] == [("heat", "ddpm")] * 2
    assert all(line[3].startswith("+1.000") and line[-1] == "not judged" for line in texts)
    of_kid = difference_tables(group, "kid")[0][1]
    assert len(of_kid.lines) == 4
    assert not any("bits" in figure.name for figure in content_figures(group, {}))


def test_tables_for_programs_and_for_papers_have_them(tmp_path: Path) -> None:
    content = make_content(frame_of(rows()), title="study")
    write_tables(content, tmp_path)
    cells = pd.read_csv(tmp_path / "cells.csv")
    assert cells.set_index("model")["bits_per_dimension_mean"]["ddpm"].tolist() == [4.015] * 2
    assert "Bits/dim" in to_latex(content)


def test_without_them_nothing_is_said() -> None:
    (group,) = make_groups(frame_of(rows(dict.fromkeys(BITS))))
    assert "Bits/dim" not in comparison_table(group).columns
    assert not any("log-likelihood" in note for note in group.notes)


def test_rows_of_angles_that_do_not_say_of_how_many_are_of_the_first_ones() -> None:
    of_angles = [
        make_row(seed=seed, correlation_distance=0.1, likelihood=1.5, likelihood_error=0.1)
        for seed in range(3)
    ]
    (group,) = make_groups(frame_of(of_angles))
    assert "Nats/phase" in comparison_table(group).columns
    (note,) = (note for note in group.notes if note.startswith("Nats/phase"))
    assert "in nats per phase of 32 held-out images, by the probability flow" in note
