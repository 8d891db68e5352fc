"""Kernel inception distance: an unbiased squared MMD over seeded subsets."""

import numpy as np
import numpy.typing as npt

from kod_bench.evaluation.checks import check_features
from kod_bench.evaluation.feature_sets import FeatureSet
from kod_bench.evaluation.features import Features

#: clean-fid's defaults, stated because they are part of the number.
KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000

_BLOCK = 4096  # rows of a kernel matrix at a time


def kid(
    features: FeatureSet,
    reference: FeatureSet,
    seed: int,
    subsets: int = KID_SUBSETS,
    subset_size: int = KID_SUBSET_SIZE,
) -> float:
    """Kernel inception distance (Binkowski et al. 2018).

    The unbiased estimate of the squared MMD with the kernel ``k(x, y) = (x.y / D + 1)^3``,

        sum_{i != j} [k(x_i, x_j) + k(y_i, y_j)] / (m (m - 1)) - 2 sum_{ij} k(x_i, y_j) / m^2,

    averaged over random subsets of ``m = min(N, M, subset_size)`` images a side. Unbiased, so it
    can be slightly negative. The subsets are those that clean-fid draws after
    ``numpy.random.seed(seed)``, from a generator of our own; NumPy promises that the stream of
    this one (`RandomState`) never changes.

    Args:
        features: (N, D).
        reference: (M, D).
        seed: of the subsets.
        subsets: how many.
        subset_size: their size, where the counts allow it.

    Raises:
        ValueError: if there are fewer than two images on a side, or a feature is not finite.
    """
    check_features(features, reference)
    size = min(len(features), len(reference), subset_size)
    generator = np.random.RandomState(seed % 2**32)
    drawn = [
        [generator.choice(len(side), size, replace=False) for side in (reference, features)]
        for _ in range(subsets)
    ]
    # One whole kernel matrix costs less than a hundred small ones, until the sets are large.
    if max(len(features), len(reference)) ** 2 <= subsets * size**2:
        y = _membership([pair[0] for pair in drawn], len(reference))
        x = _membership([pair[1] for pair in drawn], len(features))
        features, reference = features[:], reference[:]  # from a file, if one of them is there
        within = _subset_sums(features, features, x, x) - x @ _kernel_diagonal(features)
        within += _subset_sums(reference, reference, y, y) - y @ _kernel_diagonal(reference)
        between = _subset_sums(features, reference, x, y)
        values = within / (size * (size - 1)) - 2 * between / size**2
        return float(values.mean())
    return float(np.mean([_mmd(features[i], reference[j]) for j, i in drawn]))


def _kernel(x: Features, y: Features) -> npt.NDArray[np.float64]:
    return np.asarray((x @ y.T / x.shape[1] + 1) ** 3, np.float64)


def _kernel_diagonal(x: Features) -> npt.NDArray[np.float64]:
    return np.asarray((np.square(x).sum(axis=1) / x.shape[1] + 1) ** 3, np.float64)


def _membership(subsets: list[npt.NDArray[np.int64]], count: int) -> npt.NDArray[np.float64]:
    """(S, N): 1 where subset s holds image n."""
    member = np.zeros((len(subsets), count))
    np.put_along_axis(member, np.stack(subsets), 1.0, axis=1)
    return member


def _subset_sums(
    x: Features, y: Features, in_x: npt.NDArray[np.float64], in_y: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Sum of the kernel over each subset's pairs: the diagonal of ``in_x K in_y^T``."""
    sums = np.zeros(len(in_x))
    for first in range(0, len(x), _BLOCK):
        rows = slice(first, first + _BLOCK)
        sums += ((in_x[:, rows] @ _kernel(x[rows], y)) * in_y).sum(axis=1)
    return sums


def _mmd(x: Features, y: Features) -> float:
    size = len(x)
    within = _kernel(x, x).sum() - _kernel_diagonal(x).sum()
    within += _kernel(y, y).sum() - _kernel_diagonal(y).sum()
    return float(within / (size * (size - 1)) - 2 * _kernel(x, y).sum() / size**2)
