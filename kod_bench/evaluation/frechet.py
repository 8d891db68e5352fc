"""The Frechet distance of two sets of features, and its limit for infinitely many samples."""

import numpy as np

from kod_bench.evaluation.checks import check_features
from kod_bench.evaluation.feature_sets import FeatureSet, moments, subset
from kod_bench.evaluation.features import Features

#: Chong and Forsyth's numbers of sizes, and the smallest of them.
INFINITY_POINTS = 15
INFINITY_SMALLEST = 5000


def fid(features: FeatureSet, reference: FeatureSet) -> float:
    """Frechet distance of the Gaussians fitted to two feature sets (Heusel et al. 2017).

    ``|mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^{1/2})``. Biased upwards at small counts, and
    rank-deficient where a count is below the feature dimension: compare equal counts only.

    The trace of the root is that of the symmetric ``(R^T S R)^{1/2}``, with ``R R^T`` the
    covariance of the smaller set: of as many rows as it has images where these are fewer than D.
    clean-fid takes the root of the D x D product, whatever the counts, and adds 1e-6 to the
    diagonals of singular ones. Both agree to a millionth (tests/evaluation/test_scores.py).

    Of a set that is too large for memory, mean and covariance are added up block by block, which
    agrees with NumPy's to rounding.

    Args:
        features: (N, D).
        reference: (M, D).

    Raises:
        ValueError: if there are fewer than two images on a side, or a feature is not finite.
    """
    check_features(features, reference)
    few, many = sorted((features, reference), key=len)
    return _distance(moments(many), *_mean_and_root(few))


def fid_infinity(
    features: FeatureSet,
    reference: FeatureSet,
    seed: int,
    smallest: int = INFINITY_SMALLEST,
    points: int = INFINITY_POINTS,
) -> float | None:
    """FID extrapolated to infinitely many samples (Chong and Forsyth 2020).

    To first order the bias of FID is proportional to 1 / N. FID is computed on random subsets of
    `points` sizes, evenly spaced from `smallest` to N; the value is the intercept at 1 / N = 0 of
    the least-squares line through them. The reference stays whole: the bias that comes from its
    own finite size stays, and is the same for all generators.

    Args:
        features: (N, D) of the samples.
        reference: (M, D).
        seed: of the subsets.
        smallest: size of the smallest subset.
        points: number of sizes.

    Returns:
        The intercept; None below ``2 * smallest`` samples, where the line has too short a base.

    Raises:
        ValueError: as `fid`.
    """
    check_features(features, reference)
    if len(features) < 2 * smallest:
        return None
    generator = np.random.default_rng(seed)
    mean, root = _mean_and_root(reference)
    sizes = np.linspace(smallest, len(features), points).astype(int)
    chosen = (generator.choice(len(features), size, replace=False) for size in sizes)
    values = [_distance(moments(subset(features, index)), mean, root) for index in chosen]
    return float(np.polynomial.Polynomial.fit(1 / sizes, values, 1).convert().coef[0])


def _mean_and_root(features: FeatureSet) -> tuple[Features, Features]:
    """Mean (D,), and R (D, K) with ``R R^T`` the covariance; K is at most N and at most D."""
    count, width = features.shape
    if count < width:
        rows = features[:]
        mean = rows.mean(axis=0)
        return mean, (rows - mean).T / np.sqrt(count - 1)
    mean, covariance = moments(features)
    values, vectors = np.linalg.eigh(covariance)
    return mean, vectors * np.sqrt(values.clip(min=0))


def _distance(ours: tuple[Features, Features], mean: Features, root: Features) -> float:
    """FID, with ``tr (S R R^T)^{1/2}`` from the eigenvalues of the symmetric ``R^T S R``."""
    own, covariance = ours
    squares = np.linalg.eigvalsh(root.T @ covariance @ root)
    shift = own - mean
    traces = np.trace(covariance) + np.square(root).sum()
    return float(shift @ shift + traces - 2 * np.sqrt(squares.clip(min=0)).sum())
