"""FID and KID by clean-fid's own functions, on features computed elsewhere."""

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np

from kod_bench.evaluation.features import Features

#: clean-fid's defaults, stated because they are part of the number.
KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000


def fid(features: Features, reference: Features) -> float:
    """Frechet distance of the Gaussians fitted to two feature sets (Heusel et al. 2017).

    ``|mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^{1/2})``. Biased upwards at small counts, and
    rank-deficient where a count is below the feature dimension: compare equal counts only.

    Args:
        features: (N, D).
        reference: (M, D).

    Raises:
        ValueError: if there are fewer than two images on a side, or a feature is not finite.
    """
    _check(features, reference)
    from cleanfid.fid import fid_from_feats

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*sqrtm.*")
        warnings.filterwarnings("ignore", message=".*singular.*")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        # clean-fid prints when the product is singular, as it is below D images.
        with contextlib.redirect_stdout(None):
            return float(fid_from_feats(features, reference))


def kid(features: Features, reference: Features, seed: int) -> float:
    """Kernel inception distance (Binkowski et al. 2018): unbiased squared MMD.

    Kernel ``(x.y / D + 1)^3``, averaged over `KID_SUBSETS` random subsets of at most
    `KID_SUBSET_SIZE` images a side. Unbiased, so it can be slightly negative.

    Args:
        features: (N, D).
        reference: (M, D).
        seed: of the subsets.

    Raises:
        ValueError: if there are fewer than two images on a side, or a feature is not finite.
    """
    _check(features, reference)
    from cleanfid.fid import kernel_distance

    with _numpy_seed(seed % 2**32):
        return float(
            kernel_distance(
                features, reference, num_subsets=KID_SUBSETS, max_subset_size=KID_SUBSET_SIZE
            )
        )


def _check(features: Features, reference: Features) -> None:
    for name, values in (("features", features), ("reference", reference)):
        if values.ndim != 2 or len(values) < 2:
            raise ValueError(f"{name} must be (N, D) with N at least 2, got {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} hold values that are not finite")
    if features.shape[1] != reference.shape[1]:
        raise ValueError(f"feature dimensions differ: {features.shape[1]}, {reference.shape[1]}")


@contextlib.contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, which clean-fid draws from, and put it back."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
