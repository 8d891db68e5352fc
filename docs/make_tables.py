"""Make the tables of README.md and docs/*.md from the rows in results/reference.

    python docs/make_tables.py           writes them
    python docs/make_tables.py --check   names the files whose tables are not what their rows say

A table stands between two comments, the first of which says what it is::

    <!-- table: STUDY METRIC [--where CONDITION]... [--models A,B,... or A;B;...] [--by AXIS] -->
    <!-- /table -->

One line per model, one column per number of evaluations, the mean over seeds with its interval, as
`kod-bench report` has them; a study of several data sets makes one table each. With ``--by``
columns are the values of an axis in place of evaluations, which have a table each. ``A+B`` are two
studies together. A likelihood is one table, since it is the same at all evaluations. In place of
METRIC, ``verdict [METRIC]`` is the report's sentences on the evidence, and ``A-minus-B METRIC`` the
differences of two models, or of one from two priors: ``A@PRIOR``.
STUDY may also be a benchmark whose lines are kept, one JSON object each (`rows.jsonl`); METRIC is
then some of their columns: ``A,B,C``.
``speed/NAME ratios`` is of results/reference/speed/NAME.json, as `benchmarks/speed.py` writes it,
``speed/NAME steps`` likewise, as `benchmarks/training_step.py` does,
and ``few-samples power`` of what `benchmarks/few_samples.py` writes.
"""

import argparse
import functools
import json
import math
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from kod_bench.cli.report import make_report
from kod_bench.reports.comparison import compare_sides
from kod_bench.reports.content import Cell, Group, ReportContent, base_model
from kod_bench.reports.layout import CellText, TableText, difference_table, estimate_text
from kod_bench.reports.markdown import escape, table_lines
from kod_bench.reports.metrics import METRICS, heading_of
from kod_bench.reports.statistics import Estimate
from kod_bench.sweeps.store.find import find_sweep

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "results" / "reference"
#: What tells lines of a benchmark apart, but for the seed.
_WAY = ("model", "prior", "sampler", "evaluations")
BLOCK = re.compile(r"(<!-- table: ([^\n]*?) -->\n).*?(<!-- /table -->)", re.DOTALL)


def made(text: str) -> str:
    """A document with its tables as their rows have them."""
    return BLOCK.sub(lambda m: f"{m[1]}\n{table(m[2])}\n\n{m[3]}", text)


def table(words: str) -> str:
    """What stands in one block.

    Raises:
        ValueError: if the words name no table.
    """
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False)
    parser.add_argument("study")
    parser.add_argument("what")
    parser.add_argument("metric", nargs="?")
    parser.add_argument("--where", action="append", default=[])
    parser.add_argument("--models", type=lambda text: text.split(";" if ";" in text else ","))
    parser.add_argument("--by")
    asked = parser.parse_args(shlex.split(words))
    if asked.what == "power":
        return "\n\n".join(_power(ROOT / "results" / "reference" / asked.study / "power.json"))
    if asked.what in ("steps", "ratios"):
        report = json.loads((STUDIES / f"{asked.study}.json").read_text(encoding="utf-8"))
        return _steps(report) if asked.what == "steps" else _ratios(report)

    lines = ROOT / "results" / "reference" / asked.study / "rows.jsonl"
    if lines.is_file():
        return "\n".join(_of_lines(lines, asked.what.split(","), asked.models))
    content = _report_of(asked.study, tuple(asked.where))
    if asked.what == "verdict":
        return "\n\n".join(_verdicts(content.groups, asked.metric))
    if asked.what in METRICS and METRICS[asked.what].of_model:
        return "\n".join(_of_models(content.groups, asked.what))
    if asked.what in METRICS and asked.by is not None:
        return "\n\n".join(_by_axis(content.groups, asked.what, asked.by))
    if asked.what in METRICS:
        return "\n\n".join(_by_evaluations(content.groups, asked.what, asked.models))
    sides = asked.what.split("-minus-")
    if len(sides) != 2 or asked.metric not in METRICS:
        raise ValueError(f"{words!r}: no table")
    ours, theirs = (_of_side(content.rows, side) for side in sides)
    compared = compare_sides(sides[0], ours, sides[1], theirs).groups
    tables = [
        [escape(f"{group.title}:"), "", *table_lines(difference_table(found, asked.metric))]
        for group in compared
        if (found := group.differences)
    ]
    if not tables:
        raise ValueError(f"{words!r}: nothing can be compared")
    return "\n\n".join("\n".join(lines) for lines in tables)


@functools.cache
def _report_of(studies: str, where: tuple[str, ...]) -> ReportContent:
    """The report on one study or several; made once, though several tables are of it."""
    sweeps = [find_sweep(f"reference/{name}", ROOT / "results") for name in studies.split("+")]
    return make_report(sweeps, conditions=list(where)).content


def _verdicts(groups: tuple[Group, ...], metric: str | None) -> Iterator[str]:
    """Sentences on the evidence, of one metric or all, under the data if there are several."""
    about = "" if metric is None else METRICS[metric].name
    for group in groups:
        title = [escape(f"{group.title}:"), ""] if len(groups) > 1 else []
        said, is_about = [], True
        for line in group.verdict:
            # What names no metric goes with the sentence before it: "And 2 more; ...".
            if any(known.name in line for known in METRICS.values()):
                is_about = about in line
            if is_about:
                said.append(f"- {escape(line)}")
        yield "\n".join([*title, *said])


def _of_side(rows: pd.DataFrame, side: str) -> pd.DataFrame:
    """Rows of ``MODEL`` or ``MODEL@PRIOR``.

    Raises:
        ValueError: if there are none.
    """
    model, _, prior = side.partition("@")
    chosen = rows["model"].astype(str).map(base_model) == model
    if prior:
        chosen &= rows["prior"].astype(str) == prior
    if not chosen.any():
        raise ValueError(f"{side}: no row")
    found = rows[chosen].reset_index(drop=True)
    if not prior:
        return found
    # A name of its own: sides that share one are compared prior by prior.
    return found.assign(model=found["model"].astype(str).map(lambda x: x.replace(model, side, 1)))


def _ratios(report: dict[str, Any]) -> str:
    """What `benchmarks/speed.py` has measured, a line each."""

    def line(found: dict[str, Any]) -> tuple[CellText, ...]:
        value, aim = found["value"], found["aim"]
        measured = f"{value:.0f}" if value > 10 else f"{value:.3f}"
        if "least" in found:
            measured += f" [{found['least']:.3f}, {found['largest']:.3f}]"
        holds = value <= aim
        texts = (str(found["ratio"]), found["what"], f"{aim:g}", measured)
        return (*map(CellText, texts), CellText("yes" if holds else "no", bold=not holds))

    headings = ("", "What", "At most", "Measured [least, largest round]", "Holds")
    lines = tuple(line(found) for found in report["ratios"])
    table = table_lines(TableText(headings, lines, frozenset({"What"})))
    commits = {(each["commit"], each["commit_before"]) for each in report["ratios"]}
    said = " and ".join(f"{now} over {before}" for now, before in sorted(commits))
    caption = f"{report['machine']}, torch {report['torch']}; {said}:"
    return "\n".join([escape(caption), "", *table])


def _steps(report: dict[str, Any]) -> str:
    """What `benchmarks/training_step.py` has measured, a line for each T and model."""
    lines = tuple(
        tuple(map(CellText, (str(row["steps"]), row["model"], f"{row['over_ddpm']:.3f}")))
        for row in report["rows"]
    )
    text = TableText(("T", "Model", "Step over DDPM's"), lines, frozenset({"Model"}))
    return "\n".join([f"torch {report['torch']}:", "", *table_lines(text)])


def _of_lines(path: Path, columns: list[str], models: list[str] | None) -> Iterator[str]:
    """One line per model, way of drawing and number of evaluations, in the order of the file.

    Raises:
        ValueError: if a model is not there, or a column is not.
    """
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if missing := set(columns) - set(row):
            raise ValueError(f"{path}: no column {missing.pop()!r}; there are {', '.join(row)}")
        found.setdefault(tuple(str(row[key]) for key in _WAY), []).append(row)
    if models is not None:
        if unknown := set(models) - {way[0] for way in found}:
            raise ValueError(f"{path}: no model {', '.join(sorted(unknown))}")
        found = {way: found[way] for name in models for way in found if way[0] == name}
    text = TableText(
        (*(key.capitalize() for key in _WAY), *columns, "Seeds"),
        tuple(
            (
                *map(CellText, way),
                *(CellText(_mean([row[column] for row in of])) for column in columns),
                CellText(str(len({row["seed"] for row in of}))),
            )
            for way, of in found.items()
        ),
        frozenset({"Model", "Prior", "Sampler"}),
    )
    yield from table_lines(text)


def _mean(values: list[float]) -> str:
    """Three digits that count, and after several seeds the range."""
    text = f"{fmean(values):.3g}"
    return text if len(values) == 1 else f"{text} ({min(values):.3g} to {max(values):.3g})"


def _by_evaluations(
    groups: tuple[Group, ...], metric: str, models: list[str] | None
) -> Iterator[str]:
    for group in groups:
        cells = [each for each in group.cells if models is None or each.base_model in models]
        asked = sorted({cell.network_evaluations for cell in cells}, reverse=True)
        lines: dict[str, dict[int, Cell]] = {}
        for cell in cells:
            lines.setdefault(cell.label, {})[cell.network_evaluations] = cell
        if models is not None:
            order = {model: place for place, model in enumerate(models)}
            lines = dict(
                sorted(
                    lines.items(), key=lambda item: order[next(iter(item[1].values())).base_model]
                )
            )
        seeds = {label: max(len(cell.seeds) for cell in of.values()) for label, of in lines.items()}
        text = TableText(
            ("Model", *(f"{number} evaluations" for number in asked), "Seeds"),
            tuple(
                (
                    CellText(label),
                    *(_text(of.get(number), metric) for number in asked),
                    CellText(str(seeds[label])),
                )
                for label, of in lines.items()
            ),
            frozenset({"Model"}),
        )
        floor = _number(group.real.score(metric), metric)
        heading = f"{heading_of(metric, group.metrics)}, {group.title}; real versus real {floor}:"
        yield "\n".join([escape(heading), "", *table_lines(text)])


def _of_models(groups: tuple[Group, ...], metric: str) -> Iterator[str]:
    """A line for each model that has a likelihood, a column for each data set."""
    lines: dict[str, dict[str, Cell]] = {}
    for group in groups:
        for cell in group.cells:
            if (score := cell.score(metric)) is not None and score.estimate.mean is not None:
                there = lines.setdefault(cell.base_model, {}).setdefault(group.title, cell)
                if (other := there.score(metric)) is None or other.estimate != score.estimate:
                    raise ValueError(f"{there.label}, {cell.label}: two values of one model")
    titles = [group.title for group in groups]
    text = TableText(
        ("Model", *titles, "Seeds"),
        tuple(
            (
                CellText(model),
                *(_text(of.get(title), metric) for title in titles),
                CellText(str(max(len(cell.seeds) for cell in of.values()))),
            )
            for model, of in sorted(lines.items())
        ),
        frozenset({"Model"}),
    )
    yield from (f"{METRICS[metric].heading}:", "", *table_lines(text))


_AXIS = re.compile(r" ([\w.]+)=(.*?)(?= [\w.]+=|$)")
#: Above the column of models that do not have the axis.
_WITHOUT = "none"


def _by_axis(groups: tuple[Group, ...], metric: str, axis: str) -> Iterator[str]:
    """A table for each data set and number of evaluations.

    Raises:
        ValueError: if no model has the axis, or two cells have one place.
    """
    for group in groups:
        values = [(cell, dict(_AXIS.findall(cell.model)).get(axis)) for cell in group.cells]
        columns = sorted({value for _, value in values if value is not None}, key=_in_order)
        if not columns:
            raise ValueError(f"{axis}: no model has it")
        columns.insert(0, _WITHOUT)
        for asked in sorted({cell.network_evaluations for cell in group.cells}, reverse=True):
            lines: dict[str, dict[str, Cell]] = {}
            for cell, value in values:
                if cell.network_evaluations == asked:
                    line = lines.setdefault(cell.label.replace(f" {axis}={value}", "", 1), {})
                    if line.setdefault(value or _WITHOUT, cell) is not cell:
                        raise ValueError(f"{cell.label}: two cells in one place")
            text = TableText(
                (axis, *columns, "Seeds"),
                tuple(
                    (
                        CellText(line),
                        *(_text(of.get(value), metric) for value in columns),
                        CellText(str(max(len(cell.seeds) for cell in of.values()))),
                    )
                    for line, of in lines.items()
                ),
                frozenset({axis}),
            )
            heading = f"{heading_of(metric, group.metrics)}, {group.title}, {asked} evaluations"
            floor = _number(group.real.score(metric), metric)
            head = escape(f"{heading}; real versus real {floor}:")
            yield "\n".join([head, "", *table_lines(text)])


def _in_order(value: str) -> tuple[float, str]:
    """Numbers by size, then texts."""
    try:
        return float(value), ""
    except ValueError:
        return math.inf, value


#: As `benchmarks/few_samples.py` names metrics.
_RANKED = {"mind": "MIND", "kid": "KID", "fid": "FID", "fid_infinity": "FID-infinity"}


def _power(path: Path) -> Iterator[str]:
    """How often metrics put neighbouring grades in order, of each way and of all together."""
    records = json.loads(path.read_text(encoding="utf-8"))
    for data, features in dict.fromkeys((each["dataset"], each["features"]) for each in records):
        here = [each for each in records if (each["dataset"], each["features"]) == (data, features)]
        ways = list(dict.fromkeys(each["way"] for each in here))
        lines = []
        for count, metric in dict.fromkeys((each["samples"], each["metric"]) for each in here):
            own = {
                each["way"]: each
                for each in here
                if (each["samples"], each["metric"]) == (count, metric)
            }
            shares = [_share([own[way]] if way in own else []) for way in (*ways,)]
            texts = (str(count), _RANKED[metric], *shares, _share(list(own.values())))
            lines.append(tuple(CellText(text) for text in texts))
        text = TableText(("n", "Metric", *ways, "all"), tuple(lines), frozenset({"Metric"}))
        yield "\n".join([escape(f"{data}, {features}:"), "", *table_lines(text)])


def _share(records: list[dict[str, int]]) -> str:
    right, pairs = (sum(each[k] for each in records) for k in ("neighbours_right", "neighbours"))
    return f"{100 * right / pairs:.0f} %" if pairs else ""


def _number(value: float | None, metric: str) -> str:
    return estimate_text(Estimate(value, None, None, 1), metric)


def _text(cell: Cell | None, metric: str) -> CellText:
    score = None if cell is None else cell.score(metric)
    return CellText("") if score is None else CellText(estimate_text(score.estimate, metric))


def documents() -> list[Path]:
    """The files that may have tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def main() -> None:
    """Write the tables, or say where they differ."""
    parser = argparse.ArgumentParser(description="Make the docs' tables from results/reference.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    check = parser.parse_args().check
    differing = []
    for path in documents():
        before = path.read_text(encoding="utf-8")
        if (after := made(before)) != before:
            differing.append(str(path.relative_to(ROOT)))
            if not check:
                path.write_text(after, encoding="utf-8")
    if differing and check:
        sys.exit(f"not what the rows say: {', '.join(differing)}; run python docs/make_tables.py")
    print("\n".join(differing) or "all tables are what their rows say")


if __name__ == "__main__":
    main()
