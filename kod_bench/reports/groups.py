"""Comparable sets of rows as a report shows them: cells, differences, sentences, notes."""

import pandas as pd

from kod_bench.reports.cells import cells_of, numbered, shared_data
from kod_bench.reports.content import (
    MOST_SHOWN,
    Cell,
    Group,
    RealScores,
    Score,
    metrics_of,
)
from kod_bench.reports.differences import differences, find_pairs, shown_differences, verdict
from kod_bench.reports.evidence import gather, marked_metrics
from kod_bench.reports.metrics import METRICS, headline
from kod_bench.reports.notes import left_apart_notes, notes_of
from kod_bench.reports.ranking import rank
from kod_bench.reports.statistics import estimate_of, number
from kod_bench.reports.values import plain, shown, whole
from kod_bench.results import COMPARISON_COLUMNS

#: The metrics that `Cell` and `RealScores` have fields for.
_EVERYWHERE = ("kid", "fid", "spectrum_distance")


def make_groups(rows: pd.DataFrame) -> tuple[Group, ...]:
    """One group per comparable set of rows.

    Args:
        rows: of `frame.COLUMNS`, each seed of a cell once.
    """
    if rows.empty:
        return ()
    grouped = list(rows.groupby(list(COMPARISON_COLUMNS), sort=True, dropna=False, observed=True))
    distinct = {name: set(rows[name].map(shown)) for name in COMPARISON_COLUMNS}
    return tuple(_group(group, distinct) for _, group in grouped)


def _group(rows: pd.DataFrame, distinct: dict[str, set[str]]) -> Group:
    first = rows.iloc[0]
    rows = numbered(rows)
    cells = cells_of(rows)
    metrics = metrics_of(rows)
    pairs = find_pairs(cells)
    evidence = gather(cells, rows, marked_metrics(rows, metrics), pairs[["first", "second"]])
    cells = rank(cells, metrics, evidence)
    table = differences(pairs, cells, rows, evidence)
    listed = _listed(cells, headline(metrics))
    notes = [
        *notes_of(rows, cells, evidence),
        *left_apart_notes(first, distinct),
    ]
    if len(listed) < len(cells):
        notes.append(
            f"Shown are the {len(listed)} of {len(cells)} cells with the lowest "
            f"{METRICS[headline(metrics)].name} at their number of evaluations; the CSV and "
            "Parquet tables hold all."
        )
    differences_shown = shown_differences(table)
    if len(differences_shown) < len(table):
        notes.append(
            f"Shown are {len(differences_shown)} of {len(table)} differences, those "
            "with the lowest p-values and means; the CSV and Parquet tables hold all."
        )
    return Group(
        title=title_of(rows),
        caption=(
            f"Features {first['features']}; {whole(first['sample_count'])} samples against "
            f"{whole(first['reference_count'])} held-out images (reference "
            f"{first['reference_hash']}, data {first['data_hash']}). Lower is better."
        ),
        key={name: plain(first[name]) for name in COMPARISON_COLUMNS},
        real=RealScores(
            **{metric: number(first[f"{metric}_real"]) for metric in _EVERYWHERE},
            count=whole(first["real_count"]) or 0,
            angles={
                m: None if METRICS[m].of_model else number(first[f"{m}_real"])
                for m in metrics
                if m not in _EVERYWHERE
            },
        ),
        cells=_cell_objects(listed, rows),
        differences=differences_shown,
        verdict=verdict(cells, table),
        notes=tuple(notes),
        cell_table=cells,
        difference_table=table,
    )


def title_of(rows: pd.DataFrame) -> str:
    """The title of comparable rows: their data, and the values of a grid that are of the data."""
    first = rows.iloc[0]
    of_data = ", ".join(shared_data(rows["model"]))
    title = f"{first['dataset']}, {whole(first['image_size'])} px"
    return f"{title}, {of_data}" if of_data else title


def _listed(cells: pd.DataFrame, metric: str) -> pd.DataFrame:
    """All cells, or of each number of evaluations the best, if they are too many for a page."""
    if len(cells) <= MOST_SHOWN:
        return cells
    each = max(1, MOST_SHOWN // cells["network_evaluations"].nunique())
    # The best first: lower means of fewer seeds may stand before it.
    order = cells.assign(other=~cells[f"{metric}_is_best"])
    order = order.sort_values(["other", f"{metric}_mean"])
    best = order.groupby("network_evaluations").head(each)
    return cells.loc[best.index.intersection(cells.index, sort=False)].sort_values(
        ["network_evaluations", "label"], kind="stable"
    )


def _cell_objects(cells: pd.DataFrame, rows: pd.DataFrame) -> tuple[Cell, ...]:
    members = rows[rows["cell"].isin(cells.index)].sort_values("seed").groupby("cell")
    seeds = members["seed"].agg(tuple).to_dict()
    trials = members["trial"].agg(tuple).to_dict()
    metrics = metrics_of(rows)
    found = []
    for index, line in cells.to_dict("index").items():
        scores = {}
        for metric in metrics:
            same = line[f"{metric}_indistinguishable"]
            scores[metric] = Score(
                estimate_of(line, f"{metric}_"),
                bool(line[f"{metric}_is_best"]),
                None if pd.isna(same) else bool(same),
            )
        found.append(
            Cell(
                label=str(line["label"]),
                model=str(line["model"]),
                process=str(line["process"]),
                kind=None if pd.isna(line["kind"]) else str(line["kind"]),
                steps=whole(line["steps"]) or 0,
                network_evaluations=whole(line["network_evaluations"]) or 0,
                sampler=str(line["sampler"]),
                prior=str(line["prior"]),
                seeds=tuple(int(seed) for seed in seeds[index]),
                kid=scores["kid"],
                fid=scores["fid"],
                spectrum_distance=scores.get("spectrum_distance"),
                angles={m: score for m, score in scores.items() if m not in _EVERYWHERE},
                is_ranked=bool(line["is_ranked"]),
                seconds_per_image=number(line["seconds_per_image"]),
                training_seconds=number(line["training_seconds"]),
                images_seen=number(line["images_seen"]),
                parameters=whole(line["parameters"]),
                iterations=whole(line["iterations"]),
                batch_size=whole(line["batch_size"]),
                configuration=str(line["configuration"]),
                trials=tuple(str(trial) for trial in trials[index]),
            )
        )
    return tuple(found)
