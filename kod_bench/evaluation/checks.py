"""What every score of feature vectors refuses."""

import numpy as np

from kod_bench.evaluation.feature_sets import FeatureSet, blocks


def check_features(features: FeatureSet, reference: FeatureSet) -> None:
    """Two sets of feature vectors that can be scored against each other.

    Raises:
        ValueError: if there are fewer than two images on a side, the dimensions differ, or a
            feature is not finite.
    """
    for name, values in (("features", features), ("reference", reference)):
        if values.ndim != 2 or len(values) < 2:
            raise ValueError(f"{name} must be (N, D) with N at least 2, got {values.shape}")
        if not all(np.isfinite(block).all() for block in blocks(values)):
            raise ValueError(f"{name} hold values that are not finite")
    if features.shape[1] != reference.shape[1]:
        raise ValueError(f"feature dimensions differ: {features.shape[1]}, {reference.shape[1]}")
