"""Density and coverage: does every sample look real, and is every real image represented."""

import numpy as np

from kod_bench.evaluation.checks import check_features
from kod_bench.evaluation.feature_sets import FeatureSet, blocks
from kod_bench.evaluation.neighbours import squared_distances, squared_radius

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
        radius = squared_radius(centres, first, reference, neighbours, _SAMPLES)
        found = np.zeros(len(centres), bool)
        for some in blocks(features, _SAMPLES):
            within = squared_distances(centres, some) < radius[:, None]
            inside += int(within.sum())
            found |= within.any(axis=1)
        covered += int(found.sum())
    return inside / (neighbours * len(features)), covered / len(reference)
