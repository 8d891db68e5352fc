"""The 1-Wasserstein distance of two histograms, on a line and on a circle."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def line_distance(one: FloatArray, two: FloatArray, length: float) -> float:
    """Least mean distance over which mass must move to turn one histogram into the other.

    ``h sum_i |F_i - G_i|``, with F and G the cumulated histograms and h the width of a bin.

    Args:
        one: (B,) masses of equal bins; need not add up to one.
        two: (B,) likewise.
        length: of the line that the bins cover, which is the unit of the result.

    Returns:
        In units of `length`. NaN where a histogram has no mass.
    """
    return float(np.abs(_cumulated_difference(one, two)).sum() * length / len(one))


def circle_distance(one: FloatArray, two: FloatArray, period: float) -> float:
    """Likewise for bins around a circle, where mass may move either way.

    ``min_c h sum_i |F_i - G_i - c|``; the minimum is at the median of F - G (Rabin, Delon and
    Gousseau 2011). At most a quarter of the period.
    """
    difference = _cumulated_difference(one, two)
    return float(np.abs(difference - np.median(difference)).sum() * period / len(one))


def sample_distance(one: FloatArray, two: FloatArray) -> float:
    """Likewise for two samples of numbers, (N,) and (M,): the area between their step functions."""
    ends = np.sort(np.concatenate([one, two]))
    below = [
        np.searchsorted(np.sort(side), ends[:-1], side="right") / len(side) for side in (one, two)
    ]
    return float((np.abs(below[0] - below[1]) * np.diff(ends)).sum())


def _cumulated_difference(one: FloatArray, two: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.cumsum(one / one.sum() - two / two.sum()), np.float64)
