"""Structured models, controls and Euclidean ones, in rows that say which and in older ones."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from kod_bench.reports import SweepReport, combine, frame_of, make_content, read_frame
from kod_bench.reports.content import Group
from kod_bench.reports.latex import to_latex
from kod_bench.reports.markdown import to_markdown
from kod_bench.reports.page.write import page
from kod_bench.results import Row, write_rows
from tests.rows import make_row

SCORES = {"ddpm": 2.0, "edm": 2.2, "kod": 1.0, "uncoupled": 1.5, "induced": 1.8, "isotropic": 1.9}
#: With the processes that live on the torus and are never structured.
TORUS = {**SCORES, "wrapped": 1.2, "geodesic": 0.5}
PROCESSES: dict[str, tuple[str, dict[str, Any]]] = {
    "ddpm": ("ddpm", {}),
    "edm": ("edm", {}),
    "kod": ("kuramoto", {"coupling": "local"}),
    "uncoupled": ("kuramoto", {"coupling": "none"}),
    "induced": ("sphere", {}),
    "isotropic": ("sphere", {"covariance": "isotropic"}),
    "wrapped": ("wrapped", {}),
    "geodesic": ("torus-flow", {}),
}


def rows_of(*models: str, seeds: int = 5) -> list[Row]:
    return [
        make_row(
            model=model,
            process=PROCESSES[model][0],
            config=json.dumps({"parameters": PROCESSES[model][1], "steps": 100}),
            seed=seed,
            trial=f"{model}{seed}",
            kid=TORUS[model] + (seed * 7 % 5) / 1000,
        )
        for model in models
        for seed in range(seeds)
    ]


def group_of(rows: list[Row]) -> Group:
    return make_content(frame_of(rows), title="x").groups[0]


def test_controls_are_told_from_structured_models_by_their_parameters() -> None:
    kinds = {cell.model: cell.kind for cell in group_of(rows_of(*SCORES)).cells}
    assert kinds == {
        "ddpm": "euclidean",
        "edm": "euclidean",
        "kod": "structured",
        "uncoupled": "control",
        "induced": "structured",
        "isotropic": "control",
    }


def test_structured_models_meet_euclidean_ones_and_the_controls_of_their_own_process() -> None:
    group = group_of(rows_of(*SCORES))
    pairs = {(d.label, d.other, d.against) for d in group.differences if d.metric == "kid"}
    assert pairs == {
        ("kod", "ddpm", "euclidean"),
        ("kod", "edm", "euclidean"),
        ("induced", "ddpm", "euclidean"),
        ("induced", "edm", "euclidean"),
        ("kod", "uncoupled", "control"),
        ("induced", "isotropic", "control"),
    }
    said = [s for s in group.verdict if s.startswith("Structured minus")]
    assert [s.split(":")[0] for s in said] == [
        "Structured minus Euclidean in KID, 4 comparisons",
        "Structured minus control in KID, 2 comparisons",
    ]
    assert "better in 2, worse in 0" in said[1]


def test_on_the_torus_they_meet_its_isotropic_processes_too() -> None:
    group = group_of(rows_of(*TORUS))
    kinds = {cell.model: cell.kind for cell in group.cells}
    assert kinds["wrapped"] == kinds["geodesic"] == "control"
    pairs = {
        (d.label, d.other) for d in group.differences if (d.metric, d.against) == ("kid", "control")
    }
    # Not maps of the sphere, nor a control: the torus is no place of theirs, nor a question.
    assert pairs == {
        ("kod", "uncoupled"),
        ("kod", "wrapped"),
        ("kod", "geodesic"),
        ("induced", "isotropic"),
    }
    said = next(s for s in group.verdict if s.startswith("Structured minus control in KID"))
    assert "4 comparisons: better in 3, worse in 1" in said
    assert any("kod has a KID 0.2 lower (better) than wrapped" in s for s in group.verdict)
    assert any("kod has a KID 0.5 higher (worse) than geodesic" in s for s in group.verdict)


def test_many_isotropic_processes_leave_no_control_of_the_own_process_out() -> None:
    many = [
        make_row(model=f"wrapped-{n}", process="wrapped", seed=seed, kid=1.2 + n / 10 + seed / 1000)
        for n in range(12)
        for seed in range(3)
    ]
    group = group_of([*rows_of("kod", "uncoupled"), *many])
    others = {d.other for d in group.differences if d.metric == "kid"}
    assert others == {"uncoupled", *(f"wrapped-{n}" for n in range(8))}


def test_what_is_no_process_of_this_version_meets_its_own_controls_alone() -> None:
    def rows(model: str, process: str, kind: str) -> list[Row]:
        return [make_row(model=model, process=process, kind=kind, seed=n) for n in range(3)]

    own = [*rows("own", "no-such", "structured"), *rows("own-off", "no-such", "control")]
    group = group_of([*own, *rows("odd", "no-such-either", "control"), *rows_of("kod", "wrapped")])
    pairs = {(d.label, d.other) for d in group.differences if d.metric == "kid"}
    assert pairs == {("own", "own-off"), ("kod", "wrapped")}


def test_without_a_control_nothing_is_said_of_one_and_the_other_way_round() -> None:
    assert not any("control" in s for s in group_of(rows_of("kod", "ddpm")).verdict)
    alone = group_of(rows_of("kod", "uncoupled")).verdict
    assert alone[0].startswith("Structured minus control in KID, 1 comparison: better in 1")
    assert not any("Euclidean" in s for s in alone)
    for models in (("uncoupled", "ddpm"), ("kod",)):
        (sentence,) = group_of(rows_of(*models)).verdict
        assert "nothing to compare" in sentence


def test_a_control_of_another_process_is_not_what_a_model_is_compared_with() -> None:
    group = group_of(rows_of("kod", "isotropic"))
    assert group.differences == ()
    assert "with a control of its own process or state space: nothing" in group.verdict[0]


@pytest.mark.parametrize("drop", [[], ["kind"]])
def test_rows_of_before_and_of_now_are_classified_alike(tmp_path: Path, drop: list[str]) -> None:
    paths = []
    for row in rows_of("ddpm", "kod", "uncoupled"):
        folder = tmp_path / row.trial
        folder.mkdir()
        paths.append(write_rows(folder, [row]))
        pq.write_table(pq.read_table(paths[-1]).drop_columns(drop), paths[-1])
    read = read_frame(paths)
    found = dict(zip(read.rows["model"], read.rows["kind"], strict=True))
    assert found == {"ddpm": "euclidean", "kod": "structured", "uncoupled": "control"}
    both = combine([read, read_frame(paths)]).rows
    assert set(both["kind"]) == {"euclidean", "structured", "control"}


def test_what_a_row_says_of_itself_counts() -> None:
    # Of a plug-in's process, which is not known here; and of what is not known at all, nothing.
    rows = [
        make_row(model="own", process="no-such", kind="structured", seed=0),
        make_row(model="mystery", process="no-such-either", seed=0),
        make_row(model="broken", process="kuramoto", config="{", seed=0),
        make_row(model="odd", process="kuramoto", config='{"parameters": []}', seed=0),
    ]
    kinds = {cell.model: cell.kind for cell in group_of(rows).cells}
    assert kinds == {"own": "structured", "mystery": None, "broken": None, "odd": None}


def test_kinds_and_what_is_compared_with_what_are_in_every_format(tmp_path: Path) -> None:
    content = make_content(frame_of(rows_of(*SCORES)), title="x")
    for text in (to_markdown(content), to_latex(content), page(content)):
        plain = text.replace("\\", "")
        assert "Structured minus Euclidean, KID" in plain
        assert "Structured minus control, KID" in plain
    SweepReport(content, {}).write(tmp_path, paper=False)
    cells = pd.read_csv(tmp_path / "cells.csv").set_index("model")
    assert cells.loc["uncoupled", "kind"] == "control"
    assert set(pd.read_parquet(tmp_path / "differences.parquet")["against"]) == {
        "euclidean",
        "control",
    }
