"""Features that are too many for memory score as those in memory do."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kod_bench.evaluation import Measured, feature_sets
from kod_bench.evaluation.feature_sets import SpooledFeatures, moments, room_for, subset
from kod_bench.evaluation.features import FeatureExtractor, Features
from kod_bench.evaluation.frechet import fid, fid_infinity
from kod_bench.evaluation.kernel import kid
from kod_bench.evaluation.manifold import density_and_coverage


def spread(count: int, width: int, seed: int) -> Features:
    """Correlated, of unequal scales, not about zero: as a network's features are."""
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(width, width)) * np.geomspace(1, 1e-3, width)
    return np.asarray(np.abs(generator.normal(size=(count, width)) @ mixing.T))


def spooled(features: Features, folder: Path, at_once: int = 256) -> SpooledFeatures:
    made = SpooledFeatures(*features.shape, folder)
    for first in range(0, len(features), at_once):
        made[first : first + at_once] = features[first : first + at_once]
    return made


def test_rows_come_back_as_they_were_put(tmp_path: Path) -> None:
    features = spread(1000, 7, 0)
    found = spooled(features, tmp_path)
    assert found.shape == (len(found), 7) == (1000, 7)
    assert not [*tmp_path.iterdir()]  # a kill leaves nothing
    for index in (
        slice(None), slice(10, 20), slice(990, 2000), slice(5, 5), np.array([3, 999, 4, 5, 6, 3]),
        np.array([], np.int64), np.random.default_rng(0).permutation(1000),
    ):  # fmt: skip
        assert np.array_equal(found[index], features[index])
    order = np.random.default_rng(1).permutation(1000)[:300]
    some = subset(found, order)
    assert np.array_equal(some[:], features[order])
    assert np.array_equal(some[np.array([7, 0])], features[order[[7, 0]]])
    with pytest.raises(ValueError, match=r"\(3, 6\) are no rows 0 to 3"):
        found[0:3] = features[:3, :6]


def test_a_set_lies_in_a_file_if_it_is_large(tmp_path: Path) -> None:
    width = 1024
    fits = feature_sets.MOST_IN_MEMORY // 8 // width
    assert isinstance(room_for(fits, width, tmp_path), np.ndarray)
    assert isinstance(room_for(fits + 1, width, tmp_path), SpooledFeatures)


@pytest.mark.parametrize("count", [700, 12_000])  # KID: all pairs, subsets
def test_scores_are_those_of_a_set_in_memory(tmp_path: Path, count: int) -> None:
    features, reference = spread(count, 12, 1), spread(200, 12, 2)
    found = spooled(features, tmp_path)
    assert kid(found, reference, 3) == kid(features, reference, 3)
    assert density_and_coverage(found, reference) == density_and_coverage(features, reference)
    assert fid(found, reference) == pytest.approx(fid(features, reference), rel=1e-6)
    # Either side may be the large one.
    assert kid(reference, found, 3) == kid(reference, features, 3)
    assert density_and_coverage(reference, found) == density_and_coverage(reference, features)
    assert fid(reference, found) == pytest.approx(fid(reference, features), rel=1e-6)
    limit = fid_infinity(features, reference, 3)
    assert (limit is None) == (count < 10_000)
    if limit is not None:
        assert fid_infinity(found, reference, 3) == pytest.approx(limit, rel=1e-6)


def test_moments_agree_to_rounding(tmp_path: Path) -> None:
    features = spread(9000, 32, 0) + 1e3  # where a one-pass formula loses six digits
    (mean, covariance), (ours, our_covariance) = (
        moments(features),
        moments(spooled(features, tmp_path)),
    )
    np.testing.assert_allclose(ours, mean, rtol=1e-12)
    np.testing.assert_allclose(our_covariance, covariance, rtol=0, atol=1e-12 * covariance.max())


def test_what_is_not_finite_is_refused_wherever_it_lies(tmp_path: Path) -> None:
    features = spread(5000, 4, 0)
    features[4999, 3] = np.nan
    with pytest.raises(ValueError, match="features hold values that are not finite"):
        fid(spooled(features, tmp_path), spread(10, 4, 1))


class Wide(FeatureExtractor):
    """Many features of small images."""

    name = "wide"

    def __call__(self, images: Tensor) -> Features:
        mixing = np.random.default_rng(0).normal(size=(64, 512))
        return np.asarray(np.sin(images.flatten(1).double().numpy() @ mixing))


def images(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)


def test_memory_does_not_grow_with_the_number_of_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_sets, "MOST_IN_MEMORY", 2**20)
    reference = Wide()(images(100, 1))

    def peak(count: int) -> int:
        everything = images(count)
        tracemalloc.start()
        try:
            measured = Measured.of(
                everything.split(100), Wide(), count=count, spool=tmp_path, with_texture=False
            )
            assert measured.features is not None
            kid(measured.features, reference, 0, 3)
            density_and_coverage(measured.features, reference)
            fid(measured.features, reference)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Beyond where KID changes from all pairs to subsets; 10,000 rows more are 39 MiB.
    assert peak(22_000) < 1.1 * peak(12_000)


def test_features_come_together_from_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Measured.of(images(700), Wide(), with_texture=False).features
    assert isinstance(whole, np.ndarray)
    monkeypatch.setattr(feature_sets, "MOST_IN_MEMORY", 0)
    parts = images(700).split(33)
    found = Measured.of(parts, Wide(), with_texture=False, count=700, spool=tmp_path).features
    assert isinstance(found, SpooledFeatures)
    assert np.array_equal(found[:], whole)
