"""Density and coverage: does every sample look real, and is every real image represented."""

import numpy as np
import numpy.typing as npt

from kod_bench.evaluation.checks import check_features
from kod_bench.evaluation.feature_sets import FeatureSet, blocks
from kod_bench.evaluation.features import Features

#: Naeem et al.'s number of neighbours.
NEIGHBOURS = 5

_BLOCK = 1024  # reference images at a time ...
_SAMPLES = 8192  # ... and samples


def density_and_coverage(
    features: FeatureSet, reference: FeatureSet, neighbours: int = NEIGHBOURS
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
    for first in range(0, len(reference), _BLOCK):
        centres = reference[first : first + _BLOCK]
        radius = _radius(centres, first, reference, neighbours)
        found = np.zeros(len(centres), bool)
        for some in blocks(features, _SAMPLES):
            within = _squared_distances(centres, some) < radius[:, None]
            inside += int(within.sum())
            found |= within.any(axis=1)
        covered += int(found.sum())
    return inside / (neighbours * len(features)), covered / len(reference)


def _radius(
    centres: Features, first: int, reference: FeatureSet, neighbours: int
) -> npt.NDArray[np.float64]:
    """Squared distance from images number `first` on to the `neighbours`-th nearest other one."""
    nearest = np.empty((len(centres), 0))
    before = 0
    for some in blocks(reference, _SAMPLES):
        among = _squared_distances(centres, some)
        own = first + np.arange(len(centres)) - before
        rows = np.flatnonzero((own >= 0) & (own < len(some)))
        among[rows, own[rows]] = np.inf  # an image is no neighbour of its own
        before += len(some)
        nearest = np.concatenate([nearest, among], axis=1)
        nearest = np.partition(nearest, min(neighbours, nearest.shape[1]) - 1, axis=1)
        nearest = nearest[:, :neighbours]
    return np.asarray(nearest[:, neighbours - 1])


def _squared_distances(x: Features, y: Features) -> npt.NDArray[np.float64]:
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2 * x @ y.T
    return np.asarray(squares.clip(min=0.0))
