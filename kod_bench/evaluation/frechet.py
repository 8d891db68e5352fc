"""The Frechet distance of two sets of features, and its limit for infinitely many samples."""

import contextlib
import warnings

import numpy as np

from kod_bench.evaluation.checks import check_features
from kod_bench.evaluation.feature_sets import FeatureSet, moments, subset
from kod_bench.evaluation.features import Features

#: Chong and Forsyth's numbers of sizes, and the smallest of them.
INFINITY_POINTS = 15
INFINITY_SMALLEST = 5000


def fid(features: FeatureSet, reference: FeatureSet) -> float:
    """Frechet distance of the Gaussians fitted to two feature sets (Heusel et al. 2017).

    ``|mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^{1/2})``, by clean-fid's own function; where
    that finds no real square root, as it may below D images, from eigenvalues. Biased upwards at
    small counts, and rank-deficient where a count is below the feature dimension: compare equal
    counts only.

    Of a set that is too large for memory, mean and covariance are added up block by block. They
    agree with NumPy's to rounding, and the distance with clean-fid's to a millionth of itself
    (tests/evaluation/test_feature_sets.py).

    Args:
        features: (N, D).
        reference: (M, D).

    Raises:
        ValueError: if there are fewer than two images on a side, or a feature is not finite.
    """
    check_features(features, reference)
    from cleanfid.fid import frechet_distance

    ours, theirs = moments(features), moments(reference)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of singular products, and of SciPy's next version
        # clean-fid prints when the product is singular, as it is below D images.
        with contextlib.redirect_stdout(None), contextlib.suppress(ValueError):
            if np.isfinite(value := float(frechet_distance(*ours, *theirs))):
                return value
    return _distance(ours, theirs[0], _root(theirs[1]))


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
    mean, covariance = moments(reference)
    root = _root(covariance)
    sizes = np.linspace(smallest, len(features), points).astype(int)
    chosen = (generator.choice(len(features), size, replace=False) for size in sizes)
    values = [_distance(moments(subset(features, index)), mean, root) for index in chosen]
    return float(np.polynomial.Polynomial.fit(1 / sizes, values, 1).convert().coef[0])


def _root(covariance: Features) -> Features:
    """R (D, D) with ``R R^T`` the covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(values.clip(min=0)))


def _distance(ours: tuple[Features, Features], mean: Features, root: Features) -> float:
    """FID, with ``tr (S R R^T)^{1/2}`` from the eigenvalues of the symmetric ``R^T S R``.

    The same number as clean-fid's, several times faster: there are many of them to compute.
    """
    own, covariance = ours
    squares = np.linalg.eigvalsh(root.T @ covariance @ root)
    shift = own - mean
    traces = np.trace(covariance) + np.square(root).sum()
    return float(shift @ shift + traces - 2 * np.sqrt(squares.clip(min=0)).sum())
