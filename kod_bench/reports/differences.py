"""Structured minus Euclidean and structured minus control, and what that supports.

Two cells are compared if they have the same data and reference, the same number of network
evaluations, iterations and batch size, and networks of the same size to within 1 %; a structured
one meets the controls of its own process, and processes without structure on the same state space.
Samples that started from real images' noise are never compared. When two cells are told apart is
said in `evidence`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kod_bench.reports.content import MOST_SHOWN, Difference, metrics_of
from kod_bench.reports.evidence import Evidence, adjust, compare_pairs, marked_metrics
from kod_bench.reports.kinds import isotropic_rivals
from kod_bench.reports.metrics import METRICS, headline, is_judged
from kod_bench.reports.statistics import ALPHA, MIN_SEEDS, estimate_of, number

#: A sampled sweep has thousands of cells on either side, and not every pair is a question.
MOST_OPPONENTS = 8
_BUDGET = ["network_evaluations", "iterations", "batch_size"]
_SAME_SIZE = 0.01
_OF_MODELS = tuple(name for name, metric in METRICS.items() if metric.of_model)
#: What structured cells are compared with, by their `kind`, in the words of sentences.
OPPONENTS: Mapping[str, str] = {"euclidean": "Euclidean", "control": "control"}
_CONTROL = "control of its own process or state space"


def find_pairs(cells: pd.DataFrame) -> pd.DataFrame:
    """The pairs of cells that are compared: columns first, second and against.

    Each structured cell meets the Euclidean cells and the controls that it may be compared with,
    of each at most the `MOST_OPPONENTS` with the lowest KID, or of angles the lowest correlation
    distance, those with enough seeds first. Controls of its own process and isotropic ones on the
    same state space are chosen apart, so that neither leaves the other out.

    Args:
        cells: `cells.cells_of` a group.
    """
    ranked = cells[cells["is_ranked"]]
    found: list[tuple[int, int, str]] = []
    structured = ranked[ranked["kind"] == "structured"]
    theirs = ranked[ranked["kind"] == "euclidean"]
    found += [(*pair, "euclidean") for pair in _pairs(structured, theirs)]
    controls = ranked[ranked["kind"] == "control"]
    names = set(controls["process"].dropna())
    for process, own in structured.groupby("process", sort=True):
        for rivals in ({process}, isotropic_rivals(str(process), names - {process})):
            theirs = controls[controls["process"].isin(rivals)]
            found += [(*pair, "control") for pair in _pairs(own, theirs)]
    return pair_table(found)


def pair_table(pairs: Sequence[tuple[int, int, str | None]]) -> pd.DataFrame:
    """Pairs of cells and what the second one is to the first, as `differences` wants them."""
    return pd.DataFrame(
        {
            "first": pd.Series([a for a, _, _ in pairs], dtype=np.int64),
            "second": pd.Series([b for _, b, _ in pairs], dtype=np.int64),
            "against": pd.Series([kind for _, _, kind in pairs], dtype=object),
        }
    )


def differences(
    pairs: pd.DataFrame, cells: pd.DataFrame, rows: pd.DataFrame, evidence: Evidence | None = None
) -> pd.DataFrame:
    """Differences of pairs of cells, first minus second, a line per metric and pair.

    Args:
        pairs: as `pair_table` makes them.
        cells: `cells.cells_of` a group.
        rows: of the group, with their `cell`.
        evidence: what the seeds of the table beside it tell apart. Without a table, p-values are
            adjusted over the lines alone.

    Returns:
        Columns metric, against, label, other, network_evaluations, mean, low, high, count,
        other_count, is_paired, p_value, adjusted (NaN for a metric without marks) and p_sign_flip.
    """
    metrics = metrics_of(rows)
    marked = marked_metrics(rows, metrics)
    label = cells["label"].astype("category")
    found = [
        compare_pairs(metric, pairs, rows, exact=True).assign(
            metric=metric, against=pairs["against"].to_numpy()
        )
        for metric in metrics
    ]
    table = pd.concat(found, ignore_index=True)
    # Of metrics that some models have and others have not, what no pair has is no difference.
    table = table[table["mean"].notna() | ~table["metric"].isin(_OF_MODELS)].reset_index(drop=True)
    table["metric"] = pd.Categorical(table["metric"], categories=list(METRICS))
    if evidence is None:
        of_marked = table["metric"].isin(marked)
        adjusted = adjust(table.assign(p_value=table["p_value"].where(of_marked)))["adjusted"]
    else:
        adjusted = _adjusted(table, evidence)
    table = table.assign(
        label=label.loc[table["first"]].array,
        other=label.loc[table["second"]].array,
        network_evaluations=cells["network_evaluations"].loc[table["first"]].to_numpy(),
        adjusted=adjusted,
    )
    return table[list(_COLUMNS)]


_COLUMNS = (
    *("metric", "against", "label", "other", "network_evaluations"),
    *("mean", "low", "high", "count", "other_count", "is_paired"),
    *("p_value", "adjusted", "p_sign_flip"),
)


def _adjusted(table: pd.DataFrame, evidence: Evidence) -> "pd.Series[float]":
    """The adjusted p-values of the same pairs in the evidence, whichever cell is first."""
    known = evidence.pairs.set_index(["metric", "first", "second"])["adjusted"]
    ends = table[["first", "second"]].to_numpy()
    keys = pd.MultiIndex.from_arrays(
        [table["metric"].astype(str), ends.min(axis=1), ends.max(axis=1)]
    )
    return pd.Series(known.reindex(keys).to_numpy(dtype=np.float64), index=table.index)


def _pairs(ours: pd.DataFrame, theirs: pd.DataFrame) -> list[tuple[int, int]]:
    # A mean of one or two seeds takes no place from one that can be told apart.
    first = headline([m for m in METRICS if f"{m}_mean" in theirs])
    theirs = theirs.assign(few=theirs[f"{first}_count"] < MIN_SEEDS)
    theirs = theirs.sort_values(["few", f"{first}_mean"], kind="stable")
    rank = {int(cell): place for place, cell in enumerate(theirs.index)}
    opponents = {
        key: {
            size: [int(cell) for cell in cells.index[:MOST_OPPONENTS]]
            for size, cells in budget.groupby("parameters", dropna=False)
        }
        for key, budget in theirs.groupby(_BUDGET, dropna=False)
    }
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
            chosen[place] = sorted(near, key=rank.__getitem__)[:MOST_OPPONENTS]
        found += [(int(cell), int(other)) for other in chosen[place]]
    return found


def _same_size(size: Any, other: Any) -> bool:
    return bool(abs(size - other) <= _SAME_SIZE * max(size, other))


def shown_differences(table: pd.DataFrame) -> tuple[Difference, ...]:
    """The lines of a table as objects, KID first.

    Of each metric at most `MOST_SHOWN`: those with the lowest p-values, then means.
    """
    first = table.sort_values(["adjusted", "p_value", "mean"], kind="stable")
    chosen = first.groupby("metric", sort=False, observed=True).head(MOST_SHOWN).index
    shown = table.loc[table.index.isin(chosen)]
    return tuple(
        Difference(
            metric=str(line["metric"]),
            against=None if pd.isna(line["against"]) else str(line["against"]),
            label=str(line["label"]),
            other=str(line["other"]),
            network_evaluations=int(line["network_evaluations"]),
            estimate=estimate_of(line),
            p_value=number(line["p_value"]),
            adjusted=number(line["adjusted"]),
            other_count=int(line["other_count"]),
            is_paired=bool(line["is_paired"]),
        )
        for line in shown.to_dict("records")
    )


def verdict(cells: pd.DataFrame, table: pd.DataFrame) -> tuple[str, ...]:
    """Plain sentences: what the evidence supports, in the metrics that are for it."""
    kinds = set(cells[cells["is_ranked"]]["kind"].dropna())
    if "structured" not in kinds or len(kinds) == 1:
        return (
            "There is no structured model beside a Euclidean one or a control here: nothing to "
            "compare.",
        )
    said: list[str] = []
    for kind, name in OPPONENTS.items():
        lines = table[table["against"] == kind]
        if len(lines):
            said += sentences(lines, f"Structured minus {name}")
        elif kind in kinds:
            what = "Euclidean one" if kind == "euclidean" else _CONTROL
            said.append(
                f"No structured model shares budget, network size and number of evaluations with "
                f"a {what}: nothing that could be compared fairly."
            )
    return tuple(said)


def sentences(table: pd.DataFrame, what: str) -> tuple[str, ...]:
    """What a table of differences supports, in words.

    Args:
        table: as `differences` makes it.
        what: is subtracted from what.
    """
    return tuple(
        sentence
        for metric, reported in METRICS.items()
        if is_judged(metric, set(table["metric"]))
        and len(lines := table[table["metric"] == metric])
        for sentence in _of_one_metric(lines, f"{what} in {reported.name}", reported.name)
    )


def _of_one_metric(table: pd.DataFrame, what: str, name: str) -> tuple[str, ...]:
    tested = table["adjusted"].notna()
    if not tested.any():
        most = int(table[["count", "other_count"]].min(axis=1).max())
        return (
            f"Not enough seeds to say: {what}, {_comparisons(len(table))} with at most {most} "
            f"seed{'' if most == 1 else 's'} on both sides; it takes {MIN_SEEDS}.",
        )
    decided = table[table["adjusted"] <= ALPHA]
    better, worse = decided[decided["mean"] < 0], decided[decided["mean"] > 0]
    counts = (
        f"{what}, {_comparisons(len(table))}: better in {len(better)}, worse in {len(worse)}, no "
        f"difference shown in {int(tested.sum()) - len(decided)}."
    )
    if decided.empty:
        lower = int((table["mean"] < 0).sum())
        counts += f" The mean difference is below 0 (better) in {lower} of {len(table)}."
    lines = [_sentence(line, name) for line in decided.head(10).to_dict("records")]
    if len(decided) > len(lines):
        lines.append(f"And {len(decided) - len(lines)} more; the table has them.")
    if short := int((~tested).sum()):
        lines.append(f"Not enough seeds to say in {short} of them: it takes {MIN_SEEDS}.")
    return (counts, *lines)


def _comparisons(count: int) -> str:
    return "1 comparison" if count == 1 else f"{count} comparisons"


def _sentence(line: Mapping[Any, Any], name: str) -> str:
    direction = "lower (better)" if line["mean"] < 0 else "higher (worse)"
    article = "an" if name[0] in "aeio" else "a"
    text = (
        f"At {int(line['network_evaluations'])} evaluations, {line['label']} has {article} {name} "
        f"{abs(line['mean']):.3g} {direction} than {line['other']}"
    )
    ends = sorted((abs(line["low"]), abs(line["high"])))
    seeds = f"{int(line['count'])} shared seeds"
    if not line["is_paired"]:
        seeds = f"{int(line['count'])} and {int(line['other_count'])} seeds"
    # Told apart after the adjustment, the interval of the two alone does not hold 0.
    return (
        f"{text} (95 % interval {ends[0]:.3g} to {ends[1]:.3g}; {seeds}, p {_p(line['adjusted'])})."
    )


def _p(value: float) -> str:
    return f"= {value:.2g}" if value >= 1e-6 else "< 1e-6"
