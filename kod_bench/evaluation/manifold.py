"""Density and coverage: does every sample look real, and is every real image represented."""

import numpy as np
import numpy.typing as npt

from kod_bench.evaluation.checks import check_features
from kod_bench.evaluation.features import Features

#: Naeem et al.'s number of neighbours.
NEIGHBOURS = 5

_BLOCK = 1024  # reference images at a time


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
    for first in range(0, len(reference), _BLOCK):
        centres = reference[first : first + _BLOCK]
        among = _squared_distances(centres, reference)
        rows = np.arange(len(centres))
        among[rows, first + rows] = np.inf  # an image is no neighbour of its own
        radius = np.partition(among, neighbours - 1, axis=1)[:, neighbours - 1]
        within = _squared_distances(centres, features) < radius[:, None]
        inside += int(within.sum())
        covered += int(within.any(axis=1).sum())
    return inside / (neighbours * len(features)), covered / len(reference)


def _squared_distances(x: Features, y: Features) -> npt.NDArray[np.float64]:
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2 * x @ y.T
    return np.asarray(squares.clip(min=0.0))
