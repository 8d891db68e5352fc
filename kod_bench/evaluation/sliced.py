"""The Monge inception distance: sliced optimal transport between two sets of features."""

import numpy as np

from kod_bench.evaluation.checks import check_features
from kod_bench.evaluation.feature_sets import FeatureSet, blocks
from kod_bench.evaluation.features import Features

#: The most that its paper takes.
PROJECTIONS = 1000

_AT_ONCE = 100  # directions


def mind(
    features: FeatureSet, reference: FeatureSet, seed: int, projections: int = PROJECTIONS
) -> float:
    r"""Monge inception distance, MIND (Berthet et al. 2026, arXiv 2605.06797).

    The squared 2-Wasserstein distance of what the two sets are along a direction, on average over
    random directions u_i, in units in which that of two points D numbers long is about theirs:

        MIND = 3 D / M sum_i W_2^2(u_i^T x, u_i^T y)

    where W_2^2 on a line is the mean square of the difference of the quantiles. Of equal counts
    these are the sorted values, as in the paper; it says nothing of others, whose quantiles are
    taken as the steps that they are, so that no image is left out.

    Biased upwards at small counts, by about 3 (1 / N + 1 / M) times the spread of the features, as
    FID is, though far less: compare equal counts only.

    Args:
        features: (N, D).
        reference: (M, D).
        seed: of the directions.
        projections: how many.

    Raises:
        ValueError: if there are fewer than two images on a side, or a feature is not finite.
    """
    check_features(features, reference)
    width = features.shape[1]
    generator = np.random.default_rng(seed)
    pieces = _pieces(len(features), len(reference))
    total = 0.0
    for first in range(0, projections, _AT_ONCE):
        count = min(_AT_ONCE, projections - first)
        directions = generator.standard_normal((width, count))
        directions /= np.linalg.norm(directions, axis=0)
        ours, theirs = (_along(side, directions) for side in (features, reference))
        shares, mine, other = pieces
        total += float(shares @ np.square(ours[mine] - theirs[other]).sum(axis=1))
    return float(3 * width * total / projections)


def _along(features: FeatureSet, directions: Features) -> Features:
    """Sorted values along each direction, (N, K)."""
    values = np.concatenate([block @ directions for block in blocks(features)])
    values.sort(axis=0)
    return values


def _pieces(one: int, two: int) -> tuple[Features, np.ndarray, np.ndarray]:
    """Intervals of [0, 1] on which both quantile functions are constant: lengths, and steps.

    In whole numbers: rounding would make pieces of no length.
    """
    ends = np.union1d(np.arange(1, one + 1) * two, np.arange(1, two + 1) * one)
    starts = np.concatenate([[0], ends[:-1]])
    return (ends - starts) / (one * two), starts // two, starts // one
