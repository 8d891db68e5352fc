"""Does every sample look real, and is every real image represented: by balls about features."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kod_bench.evaluation.checks import check_features
from kod_bench.evaluation.features import Features

#: Naeem et al.'s number of neighbours.
NEIGHBOURS = 5

#: Kynkaanniemi et al.'s.
MANIFOLD_NEIGHBOURS = 3

_BLOCK = 1024  # centres of balls at a time


def density_and_coverage(
    features: Features, reference: Features, neighbours: int = NEIGHBOURS
) -> tuple[float, float] | None:
    """Density and coverage (Naeem et al. 2020).

    With ``B_i`` the open ball about the reference image ``y_i`` that reaches to its `neighbours`-th
    neighbour among the other reference images,

        density  = 1/(k N) sum_j |{i : x_j in B_i}|      coverage = 1/M |{i : some x_j in B_i}|.

    For samples from the reference's own law the expected density is 1 (it has no upper limit), and
    the expected coverage is ``1 - prod_{j=1}^{k} (M - j) / (M + N - j)``: it depends on the counts,
    so compare equal counts only. Higher is better.

    Args:
        features: (N, D) of the samples.
        reference: (M, D).
        neighbours: k.

    Returns:
        Density and coverage; None where the reference has no k-th neighbour.

    Raises:
        ValueError: if there are fewer than two images on a side, or a feature is not finite.
    """
    check_features(features, reference)
    if len(reference) <= neighbours:
        return None
    inside = covered = 0
    for centres, radius in _balls(reference, neighbours):
        within = _squared_distances(centres, features) < radius[:, None]
        inside += int(within.sum())
        covered += int(within.any(axis=1).sum())
    return inside / (neighbours * len(features)), covered / len(reference)


def precision_and_recall(
    features: Features, reference: Features, neighbours: int = MANIFOLD_NEIGHBOURS
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
    for some, radius in _balls(centres, neighbours):
        found |= (_squared_distances(some, points) <= radius[:, None]).any(axis=0)
    return float(found.mean())


def _balls(
    centres: Features, neighbours: int
) -> Iterator[tuple[Features, npt.NDArray[np.float64]]]:
    """Some centres, and the square of the distance of each to its k-th neighbour among all."""
    for first in range(0, len(centres), _BLOCK):
        some = centres[first : first + _BLOCK]
        among = _squared_distances(some, centres)
        rows = np.arange(len(some))
        among[rows, first + rows] = np.inf  # an image is no neighbour of its own
        yield some, np.partition(among, neighbours - 1, axis=1)[:, neighbours - 1]


def _squared_distances(x: Features, y: Features) -> npt.NDArray[np.float64]:
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2 * x @ y.T
    return np.asarray(squares.clip(min=0.0))
