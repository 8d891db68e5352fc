"""Which of two cells has the lower score: one standard for all marks and sentences of a table.

Two cells are compared by a two-sided t test over training seeds. From `PAIRED_FROM` shared seeds on
it is the paired one. With fewer it is Welch's, on all seeds of both: to pair n seeds leaves n - 1
degrees of freedom instead of up to 2 n - 2, which costs more than what few seeds have in common
brings, and where seeds move both scores alike Welch's test only errs towards saying nothing.
Variances may differ in either.

What is compared is chosen by looking (the best), so the p-values are adjusted by Holm as if all
pairs of cells at equal numbers of evaluations were compared, in all metrics with marks together.
Whatever is then read off them, of tables whose truth is that two cells are equal at most `ALPHA`
tell these apart. A cell is denied the place of the best if any is told to be better; this is
multiple comparisons with the best (Hsu, Annals of Statistics 9, 1981) as Tukey's all-pairs
intervals imply it. Hsu's own are narrower, but of several that are equally good they protect one.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kod_bench.reports.metrics import METRICS, headline, is_judged
from kod_bench.reports.statistics import (
    ALPHA,
    MIN_SEEDS,
    estimates,
    holm,
    sign_flip,
    t_test,
    welch,
)
from kod_bench.results import FID_COUNT

#: With fewer shared seeds, a paired test finds less than an unpaired one.
PAIRED_FROM = 6
#: Pairs that are worked on at once.
_CHUNK = 20_000


@dataclass(frozen=True)
class Evidence:
    """What the seeds of a comparable set tell apart.

    Attributes:
        pairs: a line per metric with marks and pair of cells that was compared: metric, the cells
            first and second, mean (of the difference), and p_value, NaN where there are too few
            seeds, and adjusted.
        hypotheses: how many pairs and metrics the adjustment is for.
        metrics: that have marks.
    """

    pairs: pd.DataFrame
    hypotheses: int
    metrics: tuple[str, ...]

    def better(self, metric: str) -> pd.DataFrame:
        """Pairs of a metric that are told apart: the cells lower and higher, a line each."""
        told = self.pairs[(self.pairs["metric"] == metric) & (self.pairs["adjusted"] <= ALPHA)]
        down = told["mean"] < 0
        return pd.DataFrame(
            {
                "lower": told["first"].where(down, told["second"]),
                "higher": told["second"].where(down, told["first"]),
            }
        )


def standard(hypotheses: int, metrics: tuple[str, ...]) -> str:
    """The standard of evidence, in a sentence.

    Args:
        hypotheses: how many differences the 5 % are shared by.
        metrics: that they are in.
    """
    if not hypotheses:
        return f"Nothing is told apart: it takes {MIN_SEEDS} seeds on both sides."
    names = " and ".join(METRICS[metric].name for metric in metrics)
    what = "1 difference" if hypotheses == 1 else f"all {hypotheses:,} differences"
    return (
        f"Told apart means, in marks and sentences alike: by a t test over seeds (paired from "
        f"{PAIRED_FROM} shared seeds on, else Welch's; at least {MIN_SEEDS} on both sides), "
        f"Holm-adjusted to {100 * ALPHA:g} % over {what} of two models at equal NFE in {names}."
    )


def marked_metrics(rows: pd.DataFrame, metrics: tuple[str, ...]) -> tuple[str, ...]:
    """The metrics in which cells are told apart.

    Not FID of few samples, which is biased, nor KID and FID of the hues of angles, nor likelihoods,
    which would be counted anew at every number of evaluations.
    """
    enough = bool((rows["sample_count"] >= FID_COUNT).all()) and headline(metrics) == "kid"
    return tuple(m for m in metrics if is_judged(m, metrics) or (enough and m == "fid"))


def gather(
    cells: pd.DataFrame,
    rows: pd.DataFrame,
    metrics: tuple[str, ...],
    pairs: pd.DataFrame,
) -> Evidence:
    """Compare each cell with the lowest at its number of evaluations, and further pairs.

    Args:
        cells: `cells.cells_of` a group.
        rows: of the group, with their `cell`.
        metrics: that have marks.
        pairs: columns first and second, of cells at equal numbers of evaluations.
    """
    found, hypotheses = [], 0
    for metric in metrics:
        ranked = cells[cells["is_ranked"] & cells[f"{metric}_mean"].notna()]
        testable = ranked[ranked[f"{metric}_count"] >= MIN_SEEDS]
        sizes = testable.groupby("network_evaluations").size()
        hypotheses += int((sizes * (sizes - 1) // 2).sum())
        chosen = pd.concat([_against(testable, leaders(ranked, metric)), pairs], ignore_index=True)
        chosen = chosen[
            chosen["first"].isin(testable.index) & chosen["second"].isin(testable.index)
        ]
        low, high = np.minimum(*chosen.to_numpy().T), np.maximum(*chosen.to_numpy().T)
        chosen = pd.DataFrame({"first": low, "second": high}).drop_duplicates(ignore_index=True)
        found.append(compare_pairs(metric, chosen, rows).assign(metric=metric))
    table = pd.concat(found, ignore_index=True)
    return Evidence(adjust(table, hypotheses), hypotheses, metrics)


def leaders(ranked: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The cell with the lowest mean, of all and of those with most seeds.

    Returns:
        Columns all and full, by number of evaluations.
    """
    mean, count = ranked[f"{metric}_mean"], ranked[f"{metric}_count"]
    at = ranked["network_evaluations"]
    full = count == count.groupby(at).transform("max")
    return pd.DataFrame(
        {
            "all": mean.groupby(at).idxmin(),
            "full": mean[full].groupby(at[full]).idxmin(),
        }
    )


def _against(cells: pd.DataFrame, leading: pd.DataFrame) -> pd.DataFrame:
    """Each cell with either leader at its number of evaluations."""
    parts = [
        pd.DataFrame(
            {"first": cells.index, "second": cells["network_evaluations"].map(leading[name])}
        )
        for name in leading
    ]
    both = pd.concat(parts, ignore_index=True).dropna().astype(np.int64)
    return both[both["first"] != both["second"]]


def adjust(table: pd.DataFrame, hypotheses: int | None = None) -> pd.DataFrame:
    """`compare_pairs` of all metrics, with `adjusted`: Holm's over all of them.

    Args:
        table: the lines.
        hypotheses: how many there are, if more than the lines with a p-value.
    """
    p = table["p_value"].to_numpy(dtype=np.float64)
    tested = ~np.isnan(p)
    adjusted = np.full(len(p), np.nan)
    adjusted[tested] = holm(p[tested], hypotheses)
    return table.assign(adjusted=adjusted)


def compare_pairs(
    metric: str, pairs: pd.DataFrame, rows: pd.DataFrame, exact: bool = False
) -> pd.DataFrame:
    """Test pairs of cells in one metric, a line each.

    Args:
        metric: of `METRICS`.
        pairs: columns first and second: the cells.
        rows: of the group, with their `cell`.
        exact: whether exact p-values on shared seeds are wanted, too.

    Returns:
        Columns first, second; mean, low, high of first minus second; count and other_count, the
        seeds of either; is_paired; p_value, NaN where there are too few seeds; and p_sign_flip.
    """
    values = rows.loc[np.isfinite(rows[metric].astype(np.float64)), ["cell", "seed", metric]]
    each = estimates(values[metric], values["cell"])
    parts = [
        _tested(metric, pairs.iloc[at : at + _CHUNK], values, each, exact)
        for at in range(0, max(1, len(pairs)), _CHUNK)
    ]
    return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]


def _tested(
    metric: str, pairs: pd.DataFrame, values: pd.DataFrame, each: pd.DataFrame, exact: bool
) -> pd.DataFrame:
    ours, theirs = (each.reindex(pairs[name]) for name in ("first", "second"))
    means, deviations, counts = (
        (
            ours[name].fillna(unknown).to_numpy(dtype=np.float64),
            theirs[name].fillna(unknown).to_numpy(dtype=np.float64),
        )
        for name, unknown in (("mean", np.nan), ("deviation", np.nan), ("count", 0.0))
    )
    low, high, p = welch(means, deviations, counts)
    shared = _shared(metric, pairs, values)
    paired = estimates(shared["difference"], shared["pair"]).reindex(range(len(pairs)))
    count = paired["count"].fillna(0).to_numpy(dtype=np.int64)
    is_paired = count >= PAIRED_FROM
    error = paired["deviation"].to_numpy() / np.sqrt(np.maximum(count, 1))
    mean = np.where(is_paired, paired["mean"], means[0] - means[1])
    p = np.where(is_paired, t_test(paired["mean"].to_numpy(), error, np.maximum(count - 1.0, 1)), p)
    return pd.DataFrame(
        {
            "first": pairs["first"].to_numpy(),
            "second": pairs["second"].to_numpy(),
            "mean": mean,
            "low": np.where(is_paired, paired["low"], low),
            "high": np.where(is_paired, paired["high"], high),
            "count": np.where(is_paired, count, counts[0]).astype(np.int64),
            "other_count": np.where(is_paired, count, counts[1]).astype(np.int64),
            "is_paired": is_paired,
            "p_value": p,
            "p_sign_flip": _sign_flips(shared, count) if exact else np.nan,
        }
    )


def _shared(metric: str, pairs: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Differences on the seeds that both cells of a pair have: pair, difference; in order."""
    numbered = pairs.assign(pair=range(len(pairs)))
    ours = numbered.merge(values.rename(columns={"cell": "first", metric: "ours"}), on="first")
    theirs = values.rename(columns={"cell": "second", metric: "theirs"})
    both = ours.merge(theirs, on=["second", "seed"])
    return both.assign(difference=both["ours"] - both["theirs"]).sort_values(["pair", "seed"])


def _sign_flips(shared: pd.DataFrame, count: np.ndarray) -> np.ndarray:
    p = np.full(len(count), np.nan)
    differences = shared["difference"].to_numpy(dtype=np.float64)
    starts = np.concatenate([[0], np.cumsum(count)])
    for seeds in sorted(set(count) - {0}):
        which = np.flatnonzero(count == seeds)
        p[which] = sign_flip(differences[starts[which][:, None] + np.arange(seeds)])
    return p
