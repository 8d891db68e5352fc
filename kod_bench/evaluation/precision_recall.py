"""Improved precision and recall: the share of each set of images in the other's manifold."""

import numpy as np

from kod_bench.evaluation.checks import check_features
from kod_bench.evaluation.feature_sets import FeatureSet, blocks
from kod_bench.evaluation.neighbours import squared_distances, squared_radius

#: Kynkaanniemi et al.'s number of neighbours.
NEIGHBOURS = 3

_BLOCK = 1024  # images at a time, of each side


def precision_and_recall(
    features: FeatureSet, reference: FeatureSet, neighbours: int = NEIGHBOURS
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


def _share_within(points: FeatureSet, centres: FeatureSet, neighbours: int) -> float:
    """Of the points, those in a ball about one of the centres."""
    found = np.zeros(len(points), dtype=bool)
    for first in range(0, len(centres), _BLOCK):
        some = centres[first : first + _BLOCK]
        radius = squared_radius(some, first, centres, neighbours, _BLOCK)
        before = 0
        for few in blocks(points, _BLOCK):
            within = squared_distances(some, few) <= radius[:, None]
            found[before : before + len(few)] |= within.any(axis=0)
            before += len(few)
    return float(found.mean())
