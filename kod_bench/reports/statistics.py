"""Means and differences over training seeds, with the uncertainty that the seeds support.

Intervals are Student's, not percentile-bootstrap ones: with the 3 to 8 seeds that a study affords,
a resampled mean cannot vary enough, and a nominal 95 % percentile interval holds the true mean in
about 75 % (3 seeds) to 90 % (8 seeds) of all studies; Student's does in 95 % where seeds scatter
normally. Nor is the bootstrap-t interval a way out: at 3 seeds, one resample in nine has no
variance to divide by. `tests/reports/test_statistics.py` measures the coverage of both.

P-values are exact and assume less: under the hypothesis of no difference, each seed's difference is
as likely to have the other sign (Fisher's randomisation test). With n seeds the lowest two-sided
p-value is 2 / 2^n, so that five seeds or fewer can never reach 0.05.
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
#: Of the false alarms among all lines of a table, after Holm's adjustment.
ALPHA = 0.05
INTERVAL_METHOD = "95 % Student interval over training seeds"

#: Up to so many seeds all sign patterns are counted, 65,536 of them; beyond, as many random ones.
_EXACT_SEEDS = 16

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


def welch_interval(
    mean: Floats, deviation: Floats, count: Floats, other: tuple[float, float, int]
) -> tuple[Floats, Floats]:
    """95 % interval of the difference of means of unpaired seeds (Welch, Satterthwaite).

    Args:
        mean: of each cell.
        deviation: its standard deviation over seeds.
        count: its seeds.
        other: mean, deviation and count of the cell that is subtracted.

    Returns:
        Lower and upper ends; NaN where either side has fewer than `MIN_SEEDS` seeds.
    """
    enough = (count >= MIN_SEEDS) & (other[2] >= MIN_SEEDS)
    own = deviation**2 / np.maximum(count, 1)
    theirs = other[1] ** 2 / max(other[2], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = (own + theirs) ** 2 / (
            own**2 / np.maximum(count - 1, 1) + theirs**2 / max(other[2] - 1, 1)
        )
        # Without any scatter there is no freedom to compute, and the interval has no width.
        half = np.where(own + theirs > 0, _quantiles(freedom) * np.sqrt(own + theirs), 0.0)
    half = np.where(enough, half, np.nan)
    difference = mean - other[0]
    return difference - half, difference + half


def sign_flip(differences: Floats) -> Floats:
    """Two-sided p-values of the mean of paired differences, by flipping their signs.

    Args:
        differences: (K, n), n paired differences in each of K comparisons.

    Returns:
        (K,): the share of sign patterns whose mean is at least as far from 0 as the one found.
        Exact up to 16 seeds; beyond, from 65,535 random patterns and the one found.
    """
    count = differences.shape[1]
    if not count:
        return np.ones(len(differences))
    signs = _signs(count)
    found = np.abs(differences.sum(axis=1))
    # Sums of the same numbers in another order differ in the last bits.
    tolerance = 1e-12 * np.abs(differences).sum(axis=1)
    p = np.empty(len(differences))
    step = max(1, 4_000_000 // len(signs))
    for first in range(0, len(differences), step):
        part = slice(first, first + step)
        sums = np.abs(differences[part] @ signs.T)
        p[part] = (sums >= (found[part] - tolerance[part])[:, None]).mean(axis=1)
    return p


def lowest_p(count: int) -> float:
    """The lowest p-value that so many seeds can reach."""
    return 1.0 if count < 1 else 2.0 / 2.0 ** min(count, _EXACT_SEEDS)


def holm(p: Floats) -> Floats:
    """P-values adjusted for all lines of a table (Holm 1979): at most `ALPHA` of tables err."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def seeds_needed(comparisons: int) -> int:
    """How many shared seeds a table of so many comparisons needs to find any difference."""
    return next(n for n in range(1, 200) if max(comparisons, 1) * 2.0 / 2.0**n <= ALPHA)


def _quantiles(freedom: Floats) -> Floats:
    """Student's 97.5 % quantile; computed once per distinct number of degrees of freedom."""
    from scipy.stats import t

    distinct, place = np.unique(np.maximum(freedom, 1.0), return_inverse=True)
    found: Floats = t.ppf(0.5 + LEVEL / 2, distinct)[place]
    return found


@functools.cache
def _signs(count: int) -> Floats:
    """Sign patterns, (patterns, count); the first is all plus."""
    if count <= _EXACT_SEEDS:
        bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
        return 1.0 - 2.0 * bits.astype(np.float64)
    drawn = np.random.default_rng(0).integers(0, 2, size=(2**_EXACT_SEEDS, count))
    drawn[0] = 0
    return 1.0 - 2.0 * drawn.astype(np.float64)
