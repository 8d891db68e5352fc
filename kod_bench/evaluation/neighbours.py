"""Distances between feature vectors, and how far the nearest neighbours are."""

import numpy as np
import numpy.typing as npt

from kod_bench.evaluation.feature_sets import FeatureSet, blocks
from kod_bench.evaluation.features import Features


def squared_distances(x: Features, y: Features) -> npt.NDArray[np.float64]:
    """Between all of (N, D) and all of (M, D): (N, M)."""
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2 * x @ y.T
    return np.asarray(squares.clip(min=0.0))


def squared_radius(
    centres: Features, first: int, images: FeatureSet, neighbours: int, rows: int
) -> npt.NDArray[np.float64]:
    """Squared distance from images number `first` on to the `neighbours`-th nearest other one.

    Args:
        centres: (B, D) of these images.
        first: number of the first of them among all.
        images: (N, D) of all, more than `neighbours`.
        neighbours: k.
        rows: of all images, at a time.
    """
    nearest = np.empty((len(centres), 0))
    before = 0
    for some in blocks(images, rows):
        among = squared_distances(centres, some)
        own = first + np.arange(len(centres)) - before
        found = np.flatnonzero((own >= 0) & (own < len(some)))
        among[found, own[found]] = np.inf  # an image is no neighbour of its own
        before += len(some)
        nearest = np.concatenate([nearest, among], axis=1)
        nearest = np.partition(nearest, min(neighbours, nearest.shape[1]) - 1, axis=1)
        nearest = nearest[:, :neighbours]
    return np.asarray(nearest[:, neighbours - 1])
