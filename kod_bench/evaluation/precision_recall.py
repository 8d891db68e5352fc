"""Improved precision and recall: the share of each set of images in the other's manifold."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kod_bench.evaluation.checks import check_features
from kod_bench.evaluation.features import Features

#: Kynkaanniemi et al.'s number of neighbours.
NEIGHBOURS = 3

_BLOCK = 1024  # images at a time, of each side


def precision_and_recall(
    features: Features, reference: Features, neighbours: int = NEIGHBOURS
) -> tuple[float, float] | None:
    """Improved precision and recall (Kynkaanniemi et al. 2019, arXiv 1904.06991, eqs. 1 and 2).

    The manifold of a set of images is the union of the closed balls about each of them that reach
    to its `neighbours`-th neighbour among the others. Precision is the share of samples in that of
    the reference, recall the share of reference images in that of the samples. Both depend on the
    counts, recall most on that of the samples: compare equal counts only. Higher is better. One
    outlier of a set makes its manifold large, which density and coverage mend.

    Args:
        features: (N, D) of the samples.
        reference: (M, D).
        neighbours: k.

    Returns:
        Precision and recall; None where a side has no k-th neighbour.

    Raises:
        ValueError: if there are fewer than two images on a side, or a feature is not finite.
    """
    check_features(features, reference)
    if min(len(features), len(reference)) <= neighbours:
        return None
    return (
        _share_within(features, reference, neighbours),
        _share_within(reference, features, neighbours),
    )


def _share_within(points: Features, centres: Features, neighbours: int) -> float:
    """Of the points, those in a ball about one of the centres."""
    found = np.zeros(len(points), dtype=bool)
    for first, some in _blocks(centres):
        radius = _radius(first, some, centres, neighbours)
        for before, few in _blocks(points):
            within = _squared_distances(some, few) <= radius[:, None]
            found[before : before + len(few)] |= within.any(axis=0)
    return float(found.mean())


def _radius(
    first: int, some: Features, centres: Features, neighbours: int
) -> npt.NDArray[np.float64]:
    """Squared distance from centres number `first` on to the k-th nearest other one."""
    nearest = np.empty((len(some), 0))
    for before, others in _blocks(centres):
        among = _squared_distances(some, others)
        if before == first:
            np.fill_diagonal(among, np.inf)  # an image is no neighbour of its own
        nearest = np.sort(np.concatenate([nearest, among], axis=1), axis=1)[:, :neighbours]
    return nearest[:, -1]


def _blocks(values: Features) -> Iterator[tuple[int, Features]]:
    for first in range(0, len(values), _BLOCK):
        yield first, values[first : first + _BLOCK]


def _squared_distances(x: Features, y: Features) -> npt.NDArray[np.float64]:
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2 * x @ y.T
    return np.asarray(squares.clip(min=0.0))
