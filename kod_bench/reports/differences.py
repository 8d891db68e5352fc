"""Structured minus Euclidean, on the seeds that both have, and what that supports.

Two cells are paired if they have the same data and reference, the same number of network
evaluations, iterations and batch size, and networks of the same size to within 1 %. Samples that
started from real images' noise are never paired.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kod_bench.reports.content import MOST_SHOWN, Difference, metrics_of
from kod_bench.reports.metrics import METRICS
from kod_bench.reports.statistics import (
    ALPHA,
    MIN_SEEDS,
    estimate_of,
    estimates,
    holm,
    lowest_p,
    number,
    seeds_needed,
    sign_flip,
)

#: A sampled sweep has thousands of cells on either side, and not every pair is a question.
MOST_OPPONENTS = 8
_BUDGET = ["network_evaluations", "iterations", "batch_size"]
_SAME_SIZE = 0.01
#: Pairs that are worked on at once.
_CHUNK = 20_000


def find_differences(cells: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """All paired differences of a group, a line per pair and metric.

    Each structured cell meets the Euclidean cells that it may be paired with, at most the
    `MOST_OPPONENTS` with the lowest KID.

    Args:
        cells: `cells.cells_of` a group.
        rows: of the group, with their `cell`.
    """
    ranked = cells[cells["is_ranked"]]
    ours = ranked[ranked["structured"].map(lambda value: value is True)]
    theirs = ranked[ranked["structured"].map(lambda value: value is False)]
    return paired(_pairs(ours, theirs), cells, rows)


def paired(
    pairs: Sequence[tuple[int, int]], cells: pd.DataFrame, rows: pd.DataFrame
) -> pd.DataFrame:
    """Differences of chosen pairs of cells, first minus second.

    Returns:
        Columns metric, label, other, network_evaluations, mean, low, high, deviation, count,
        p_value, adjusted and enough_seeds.
    """
    first = pd.Series([a for a, _ in pairs], dtype=np.int64)
    second = pd.Series([b for _, b in pairs], dtype=np.int64)
    numbered = pd.DataFrame({"pair": range(len(pairs)), "a": first, "b": second})
    parts = [_of_metric(metric, numbered, cells, rows) for metric in metrics_of(rows)]
    return pd.concat(parts, ignore_index=True)


def _pairs(ours: pd.DataFrame, theirs: pd.DataFrame) -> list[tuple[int, int]]:
    opponents = {
        key: {
            size: list(cells.sort_values("kid_mean", kind="stable").index[:MOST_OPPONENTS])
            for size, cells in budget.groupby("parameters", dropna=False)
        }
        for key, budget in theirs.groupby(_BUDGET, dropna=False)
    }
    kid = theirs["kid_mean"].to_dict()
    found: list[tuple[int, int]] = []
    chosen: dict[object, list[int]] = {}
    for cell, size, *key in ours[["parameters", *_BUDGET]].itertuples():
        place = (size, *key)
        if place not in chosen:
            near = [
                other
                for their_size, others in opponents.get(tuple(key), {}).items()
                if _same_size(size, their_size)
                for other in others
            ]
            chosen[place] = sorted(near, key=lambda other: kid[other])[:MOST_OPPONENTS]
        found += [(int(cell), int(other)) for other in chosen[place]]
    return found


def _same_size(size: Any, other: Any) -> bool:
    return bool(abs(size - other) <= _SAME_SIZE * max(size, other))


def _of_metric(
    metric: str, pairs: pd.DataFrame, cells: pd.DataFrame, rows: pd.DataFrame
) -> pd.DataFrame:
    values = rows.loc[np.isfinite(rows[metric].astype(np.float64)), ["cell", "seed", metric]]
    parts = [
        _tested(metric, pairs.iloc[first : first + _CHUNK].reset_index(drop=True), values)
        for first in range(0, max(1, len(pairs)), _CHUNK)
    ]
    found = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    p = found["p_value"].to_numpy()
    tested = ~np.isnan(p)
    adjusted = np.full(len(p), np.nan)
    adjusted[tested] = holm(p[tested])
    lowest = found["count"].map(lowest_p) * int(tested.sum())
    label = cells["label"].astype("category")
    evaluations = cells["network_evaluations"]
    return pd.DataFrame(
        {
            "metric": pd.Categorical([metric] * len(pairs), categories=list(METRICS)),
            "label": label.loc[pairs["a"]].array,
            "other": label.loc[pairs["b"]].array,
            "network_evaluations": evaluations.loc[pairs["a"]].to_numpy(),
            **{name: found[name] for name in ("mean", "low", "high", "deviation", "count")},
            "p_value": p,
            "adjusted": adjusted,
            "enough_seeds": (lowest <= ALPHA).to_numpy(dtype=bool),
        }
    )


def _tested(metric: str, pairs: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Estimates and p-values of some pairs, a line each."""
    pairs = pairs.assign(pair=range(len(pairs)))
    ours = pairs.merge(values.rename(columns={"cell": "a", metric: "ours"}), on="a")
    both = ours.merge(values.rename(columns={"cell": "b", metric: "theirs"}), on=["b", "seed"])
    both = both.assign(difference=both["ours"] - both["theirs"]).sort_values(["pair", "seed"])
    found = estimates(both["difference"], both["pair"]).reindex(range(len(pairs)))
    count = found["count"].fillna(0).astype(np.int64)
    p = np.full(len(pairs), np.nan)
    sorted_differences = both["difference"].to_numpy(dtype=np.float64)
    starts = np.concatenate([[0], np.cumsum(count.to_numpy())])
    for seeds in sorted(set(count) - {0}):
        which = np.flatnonzero(count.to_numpy() == seeds)
        places = starts[which][:, None] + np.arange(seeds)
        p[which] = sign_flip(sorted_differences[places])
    return found.assign(count=count, p_value=p)


def shown_differences(table: pd.DataFrame) -> tuple[Difference, ...]:
    """The lines of a table as objects, KID first.

    Of each metric at most `MOST_SHOWN`: those with the lowest p-values, then means.
    """
    first = table.sort_values(["adjusted", "mean"], kind="stable")
    chosen = first.groupby("metric", sort=False, observed=True).head(MOST_SHOWN).index
    shown = table.loc[table.index.isin(chosen)]
    return tuple(
        Difference(
            metric=str(line["metric"]),
            label=str(line["label"]),
            other=str(line["other"]),
            network_evaluations=int(line["network_evaluations"]),
            estimate=estimate_of(line),
            p_value=number(line["p_value"]),
            adjusted=number(line["adjusted"]),
            enough_seeds=bool(line["enough_seeds"]),
        )
        for line in shown.to_dict("records")
    )


def verdict(cells: pd.DataFrame, table: pd.DataFrame) -> tuple[str, ...]:
    """Plain sentences: what the evidence supports, in the metrics that are for it."""
    known = cells[cells["is_ranked"]]["structured"]
    if not (known.map(lambda v: v is True).any() and known.map(lambda v: v is False).any()):
        return ("There is no structured model beside a Euclidean one here: nothing to compare.",)
    if (table["count"] == 0).all():
        return (
            "No structured model shares seeds, budget, network size and number of evaluations with "
            "a Euclidean one: nothing that could be compared fairly.",
        )
    return sentences(table, "Structured minus Euclidean")


def sentences(table: pd.DataFrame, what: str) -> tuple[str, ...]:
    """What a table of differences supports, in words.

    Args:
        table: as `paired` makes it.
        what: is subtracted from what.
    """
    shared = table[table["count"] > 0]
    if shared.empty:
        return (f"{what}: no seed is on both sides.",)
    return tuple(
        sentence
        for metric, reported in METRICS.items()
        if reported.in_verdict and len(lines := shared[shared["metric"] == metric])
        for sentence in _of_one_metric(lines, f"{what} in {reported.name}", reported.name)
    )


def _of_one_metric(table: pd.DataFrame, what: str, name: str) -> tuple[str, ...]:
    wanted = seeds_needed(len(table))
    if not table["enough_seeds"].any():
        most = int(table["count"].max())
        shared = "1 shared seed" if most == 1 else f"{most} shared seeds"
        return (
            f"Not enough seeds to say: {what}, {_comparisons(len(table))} with at most "
            f"{shared}; it takes {wanted}.{_leaning(table)}",
        )
    decided = table[table["adjusted"] <= ALPHA]
    better, worse = decided[decided["mean"] < 0], decided[decided["mean"] > 0]
    counts = (
        f"{what}, {_comparisons(len(table))}: better in {len(better)}, worse in "
        f"{len(worse)}, no difference shown in {len(table) - len(decided)} (exact sign-flip test, "
        f"Holm-adjusted to {ALPHA:g} over the table)."
    )
    lines = [_sentence(line, name) for line in decided.head(10).to_dict("records")]
    if len(decided) > len(lines):
        lines.append(f"And {len(decided) - len(lines)} more; the table has them.")
    if short := int((~table["enough_seeds"] & ~(table["adjusted"] <= ALPHA)).sum()):
        lines.append(f"Not enough seeds to say in {short} of them: it takes {wanted} shared seeds.")
    return (counts, *lines)


def _comparisons(count: int) -> str:
    return "1 comparison" if count == 1 else f"{count} comparisons"


def _leaning(table: pd.DataFrame) -> str:
    """What the means say, where they say anything, without claiming it."""
    if int(table["count"].max()) < MIN_SEEDS:
        return ""
    lower = int((table["mean"] < 0).sum())
    return f" The mean difference is below 0 (better) in {lower} of {len(table)}."


def _sentence(line: Mapping[Any, Any], name: str) -> str:
    direction = "lower (better)" if line["mean"] < 0 else "higher (worse)"
    text = (
        f"At {int(line['network_evaluations'])} evaluations, {line['label']} has a {name} "
        f"{abs(line['mean']):.3g} {direction} than {line['other']}"
    )
    if math.isfinite(line["low"]):
        ends = sorted((abs(line["low"]), abs(line["high"])))
        interval = (
            f"{ends[0]:.3g} to {ends[1]:.3g}"
            if line["low"] * line["high"] > 0
            else f"difference {line['low']:.3g} to {line['high']:.3g}"
        )
        text += (
            f" (95 % interval {interval}; {int(line['count'])} seeds, p = {line['adjusted']:.2g})"
        )
    return text + "."
