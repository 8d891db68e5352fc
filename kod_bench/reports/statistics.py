"""Means and differences over training seeds, with the uncertainty that the seeds support.

Intervals are Student's, not percentile-bootstrap ones: with the 3 to 8 seeds that a study affords,
a resampled mean cannot vary enough, and a nominal 95 % percentile interval holds the true mean in
about 75 % (3 seeds) to 90 % (8 seeds) of all studies; Student's does in 95 % where seeds scatter
normally. Nor is the bootstrap-t interval a way out: at 3 seeds, one resample in nine has no
variance to divide by. `tests/reports/test_statistics.py` measures the coverage of both.

Differences are tested by Student's t on paired seeds or by Welch's, which assume the same. Exact
p-values, which assume less, cannot decide at the seeds of most studies: if there is no difference,
each seed's difference is as likely to have the other sign (Fisher's randomisation test), so with n
seeds the lowest two-sided p-value is 2 / 2^n, and five seeds or fewer never reach 0.05. They are
in the tables for programs, as a check.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

#: With fewer values there is no interval: that of two is wider than any difference of interest.
MIN_SEEDS = 3
LEVEL = 0.95
#: Of tables, those that may tell two equal models apart anywhere, in a mark or in a sentence.
ALPHA = 0.05
INTERVAL_METHOD = "95 % Student interval over training seeds"

#: Up to so many seeds all sign patterns are counted.
_EXACT_SEEDS = 32
#: Up to so many, those of all comparisons at once.
_FEW_SEEDS = 10

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: None if no value is finite.
        low: end of the interval; None where there are too few seeds for one.
        high: likewise.
        count: how many seeds have a finite value.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % Student interval over training seeds.

    Args:
        values: one per seed; those that are not finite are left out.
    """
    finite = np.asarray([v for v in values if np.isfinite(v)], dtype=np.float64)
    table = estimates(pd.Series(finite), pd.Series(np.zeros(len(finite), dtype=np.int64)))
    return estimate_of(table.iloc[0].to_dict()) if len(table) else Estimate(None, None, None, 0)


def estimates(values: pd.Series, groups: pd.Series) -> pd.DataFrame:
    """`estimate` of many groups at once.

    Args:
        values: one per seed; those that are not finite are left out.
        groups: which group each belongs to.

    Returns:
        Columns mean, low, high (NaN for none), deviation and count, by group.
    """
    found = (
        values.astype(np.float64)
        .where(np.isfinite(values.astype(np.float64)))
        .groupby(groups.to_numpy(), sort=True)
        .agg(["mean", "std", "count"])
        .rename(columns={"std": "deviation"})
    )
    count = found["count"].to_numpy()
    half = _quantiles(count - 1) * found["deviation"].to_numpy() / np.sqrt(np.maximum(count, 1))
    half = np.where(count >= MIN_SEEDS, half, np.nan)
    return found.assign(low=found["mean"] - half, high=found["mean"] + half)


def estimate_of(line: Mapping[Any, Any], prefix: str = "") -> Estimate:
    """A line of `estimates` as an `Estimate`; its columns may begin with a prefix."""
    mean, low, high = (number(line[f"{prefix}{name}"]) for name in ("mean", "low", "high"))
    return Estimate(mean, low, high, int(line[f"{prefix}count"]))


def number(value: float) -> float | None:
    """A finite number, or None."""
    return float(value) if value is not None and math.isfinite(value) else None


def welch(
    means: tuple[Floats, Floats],
    deviations: tuple[Floats, Floats],
    counts: tuple[Floats, Floats],
) -> tuple[Floats, Floats, Floats]:
    """Differences of means of unpaired seeds (Welch 1947, Satterthwaite's degrees of freedom).

    Where one side has fewer seeds, the degrees of freedom are at most those of that side alone.

    Args:
        means: of the first cell of each pair, and of the second.
        deviations: standard deviations over seeds.
        counts: of seeds.

    Returns:
        First minus second: lower and upper ends of the 95 % interval, and two-sided p-values; NaN
        where either side has fewer than `MIN_SEEDS` seeds.
    """
    enough = (counts[0] >= MIN_SEEDS) & (counts[1] >= MIN_SEEDS)
    ours, theirs = (d**2 / np.maximum(n, 1) for d, n in zip(deviations, counts, strict=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = (ours + theirs) ** 2 / (
            ours**2 / np.maximum(counts[0] - 1, 1) + theirs**2 / np.maximum(counts[1] - 1, 1)
        )
    # In the tails that many comparisons need, Satterthwaite's are too many where one side has fewer
    # seeds: of equal models, seven tables in a hundred would tell some apart.
    fewer = np.maximum(np.minimum(counts[0], counts[1]) - 1, 1)
    freedom = np.where(counts[0] != counts[1], np.minimum(freedom, fewer), freedom)
    # Without any scatter there is no freedom to compute, and the interval has no width.
    freedom = np.where(ours + theirs > 0, freedom, 1.0)
    difference, error = means[0] - means[1], np.sqrt(ours + theirs)
    half = np.where(enough, _quantiles(np.where(enough, freedom, 1.0)) * error, np.nan)
    return (
        difference - half,
        difference + half,
        np.where(enough, t_test(difference, error, freedom), np.nan),
    )


def t_test(difference: Floats, error: Floats, freedom: Floats) -> Floats:
    """Two-sided p-values of Student's t test.

    Args:
        difference: means of differences.
        error: their standard errors; where one is 0, any difference has p = 0, and none has 1.
        freedom: degrees of freedom.
    """
    from scipy.special import stdtr

    with np.errstate(invalid="ignore", divide="ignore"):
        statistic = np.where(difference == 0, 0.0, np.abs(difference) / error)
    return np.asarray(2 * stdtr(freedom, -statistic), dtype=np.float64)


def sign_flip(differences: Floats) -> Floats:
    """Two-sided p-values of the mean of paired differences, by flipping their signs.

    Args:
        differences: (K, n), n paired differences in each of K comparisons.

    Returns:
        (K,): the share of sign patterns whose mean is at least as far from 0 as the one found.
        Exact up to 32 seeds; beyond, Student's t test, which it then equals but for rounding.
    """
    lines, count = differences.shape
    if not count:
        return np.ones(lines)
    if count > _EXACT_SEEDS:
        error = differences.std(axis=1, ddof=1) / math.sqrt(count)
        return t_test(differences.mean(axis=1), error, np.full(lines, count - 1.0))
    # A pattern and its mirror are as far from 0, so the first sign can stay. Sums of the same
    # numbers in another order differ in the last bits.
    far = np.abs(differences.sum(axis=1)) - 1e-12 * np.abs(differences).sum(axis=1)
    first, others = differences[:, :1], differences[:, 1:]
    if count <= _FEW_SEEDS:
        step = 4_000_000 // 2**count
        parts = [slice(at, at + step) for at in range(0, lines, step)]
        signs = _signs(count - 1).T
        shares = [
            (np.abs(first[part] + others[part] @ signs) >= far[part, None]).mean(axis=1)
            for part in parts
        ]
        return np.concatenate(shares) if shares else np.empty(0)
    return np.array([_share(*line) for line in zip(first[:, 0], others, far, strict=True)])


def _share(first: float, others: Floats, far: float) -> float:
    """Of the sign patterns of the other differences, those whose sum with the first is far from 0.

    The sums of either half, 2^(n / 2) of them, tell it of all 2^n.
    """
    middle = len(others) // 2
    ours = first + _signs(middle) @ others[:middle]
    theirs = np.sort(_signs(len(others) - middle) @ others[middle:])
    above = len(theirs) - np.searchsorted(theirs, far - ours, "left")
    below = np.searchsorted(theirs, -far - ours, "right")
    # Where none is wanted, a sum of 0 is on both sides.
    return min(1.0, float(above.sum() + below.sum()) / (len(ours) * len(theirs)))


def lowest_p(count: int) -> float:
    """The lowest p-value that `sign_flip` can give so many seeds."""
    return 1.0 if count < 1 else 2.0 / 2.0**count


def seeds_needed(comparisons: int) -> int:
    """How many shared seeds `sign_flip` needs to find any difference among so many comparisons."""
    return next(n for n in range(1, 200) if max(comparisons, 1) * lowest_p(n) <= ALPHA)


def holm(p: Floats, hypotheses: int | None = None) -> Floats:
    """P-values adjusted for all that is tested together (Holm 1979): at most `ALPHA` of tables err.

    Args:
        p: the p-values.
        hypotheses: how many there are, if some are not among `p`: these are never rejected.
    """
    order = np.argsort(p, kind="stable")
    left = max(len(p), hypotheses or 0) - np.arange(len(p))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * left), 1.0)
    return adjusted


def _quantiles(freedom: Floats) -> Floats:
    """Student's 97.5 % quantile; computed once per distinct number of degrees of freedom."""
    from scipy.stats import t

    distinct, place = np.unique(np.maximum(freedom, 1.0), return_inverse=True)
    found: Floats = t.ppf(0.5 + LEVEL / 2, distinct)[place]
    return found


@functools.cache
def _signs(count: int) -> Floats:
    """All sign patterns, (2^count, count)."""
    bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
    return 1.0 - 2.0 * bits.astype(np.float64)
