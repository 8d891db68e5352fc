"""Two sides that somebody chose: sweeps, models, or one of them and what others have published."""

from dataclasses import dataclass

import pandas as pd

from kod_bench.reports.cells import cells_of, labels, numbered, without_titles
from kod_bench.reports.content import Difference, Group, PublishedNumber, metrics_of
from kod_bench.reports.differences import (
    differences,
    pair_table,
    sentences,
    shown_differences,
)
from kod_bench.reports.evidence import marked_metrics, standard
from kod_bench.reports.groups import make_groups, title_of
from kod_bench.reports.provenance import split_excluded
from kod_bench.reports.published import published_for
from kod_bench.results import COMPARISON_COLUMNS

#: What stands for the published numbers on the command line.
PUBLISHED = "published"


@dataclass(frozen=True)
class ComparedGroup:
    """What may be compared of two sides: equal in all of `COMPARISON_COLUMNS`.

    Attributes:
        title: data set and image size.
        differences: first side minus second.
        verdict: plain sentences.
    """

    title: str
    differences: tuple[Difference, ...]
    verdict: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Two sides.

    Attributes:
        first: as its user calls it.
        second: likewise.
        groups: what both sides have; empty beside published numbers.
        tables: the first side's own tables, beside published numbers; else empty.
        published: the second side, if it is that.
        notes: plain sentences: what could not be compared, and why.
    """

    first: str
    second: str
    groups: tuple[ComparedGroup, ...]
    tables: tuple[Group, ...]
    published: tuple[PublishedNumber, ...]
    notes: tuple[str, ...]


def compare_sides(first: str, ours: pd.DataFrame, second: str, theirs: pd.DataFrame) -> Comparison:
    """First minus second, at equal numbers of network evaluations.

    Two sweeps are compared model by model, where both have the model with the same T, sampler and
    prior; two models with each other. Budgets and networks may differ: they are what was asked.

    Args:
        first: name of the first side.
        ours: its rows.
        second: name of the second side.
        theirs: its rows.
    """
    sides = [
        rows.assign(model=without_titles(rows["model"]))
        for rows in (split_excluded(rows)[0] for rows in (ours, theirs))
    ]
    models = [set(rows["model"].dropna().unique()) for rows in sides]
    by_model = bool(models[0] & models[1])
    keys = list(COMPARISON_COLUMNS)
    found = []
    grouped = [dict(tuple(rows.groupby(keys, dropna=False, observed=True))) for rows in sides]
    for key in grouped[0]:
        if key in grouped[1]:
            found.append(
                _group(grouped[0][key], grouped[1][key], by_model, f"{first} minus {second}")
            )
    notes = []
    if by_model and (alone := sorted(map(str, models[0] ^ models[1]))):
        notes.append(f"On one side only: {', '.join(alone)}.")
    if not found:
        notes.append(f"Nothing can be compared: {_why_not(sides[0], sides[1])}.")
    return Comparison(first, second, tuple(found), (), (), tuple(notes))


def compare_with_published(first: str, rows: pd.DataFrame) -> Comparison:
    """Our tables, and published numbers on the same kind of data: beside each other, not ranked.

    Args:
        first: name of our side.
        rows: of it.
    """
    groups = make_groups(split_excluded(rows)[0])
    published = published_for(sorted(map(str, rows["dataset"].dropna().unique())))
    notes = () if published else ("Nothing is published here on these data sets.",)
    return Comparison(first, PUBLISHED, (), groups, published, notes)


def _group(ours: pd.DataFrame, theirs: pd.DataFrame, by_model: bool, what: str) -> ComparedGroup:
    first, second = numbered(ours), numbered(theirs)
    second = second.assign(cell=second["cell"] + 1 + first["cell"].max())
    cells = [cells_of(rows) for rows in (first, second)]
    on = ["network_evaluations"]
    if by_model:
        on += ["model", "steps", "sampler", "prior"]
    sides = [
        side[side["is_ranked"]].rename_axis("cell").reset_index()[["cell", *on]] for side in cells
    ]
    pairs = sides[0].merge(sides[1], on=on, suffixes=("", "_other"))[["cell", "cell_other"]]
    chosen = [(int(a), int(b), None) for a, b in pairs.itertuples(index=False)]
    both = pd.concat(cells)
    # The two sides together: what is the same within each may tell one from the other.
    both["label"] = labels(both.drop(columns="label"))
    table = differences(pair_table(chosen), both, pd.concat([first, second], ignore_index=True))
    said = sentences(table, what)
    if said:
        marked = marked_metrics(ours, metrics_of(ours))
        said += (standard(int(table["adjusted"].notna().sum()), marked),)
    return ComparedGroup(title_of(pd.concat([ours, theirs])), shown_differences(table), said)


def _why_not(ours: pd.DataFrame, theirs: pd.DataFrame) -> str:
    reasons = []
    for name in COMPARISON_COLUMNS:
        values = [sorted(map(str, rows[name].dropna().unique())) for rows in (ours, theirs)]
        if not set(values[0]) & set(values[1]):
            reasons.append(f"{name} differs ({', '.join(values[0])}; {', '.join(values[1])})")
    return ", ".join(reasons) or "no combination of data, extractor and counts is on both sides"
