"""Scores of feature vectors, against closed forms and the field's own implementations."""

import contextlib
import io

import numpy as np
import pytest
import torch
from cleanfid.fid import fid_from_feats, kernel_distance
from prdc import compute_prdc
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

from kod_bench.evaluation import density_and_coverage, fid, fid_infinity, kid, precision_and_recall
from kod_bench.evaluation.features import Features


def gaussian(count: int, shift: float = 0.0, seed: int = 0, dimension: int = 8) -> Features:
    return np.random.default_rng(seed).normal(shift, 1.0, (count, dimension))


def with_moments(mean: Features, covariance: Features, seed: int) -> Features:
    """Points whose sample mean and covariance are exactly these."""
    points = gaussian(200, seed=seed, dimension=len(mean))
    points -= points.mean(axis=0)
    whitened = points @ np.linalg.inv(np.linalg.cholesky(np.cov(points, rowvar=False))).T
    return np.asarray(whitened @ np.linalg.cholesky(covariance).T + mean)


def test_fid_of_two_gaussians_is_exact() -> None:
    # A common eigenbasis: tr (S1 S2)^(1/2) is the sum of the products of standard deviations.
    basis, _ = np.linalg.qr(gaussian(5, dimension=5))
    one, two = np.array([0.5, 1.0, 2.0, 3.0, 0.1]), np.array([1.0, 1.0, 0.5, 2.0, 0.4])
    mean = np.array([1.0, 0.0, -2.0, 0.5, 0.0])
    x = with_moments(mean, basis @ np.diag(one**2) @ basis.T, seed=1)
    y = with_moments(np.zeros(5), basis @ np.diag(two**2) @ basis.T, seed=2)
    expected = np.square(mean).sum() + np.square(one - two).sum()
    assert fid(x, y) == pytest.approx(expected, rel=1e-9)


def test_fid_of_one_feature_is_the_formula() -> None:
    one = np.random.default_rng(0).normal(size=(50, 1))
    other = np.random.default_rng(1).normal(2, 3, size=(60, 1))
    shift = (one.mean() - other.mean()) ** 2
    assert fid(one, other) == pytest.approx(shift + (one.std(ddof=1) - other.std(ddof=1)) ** 2)


@pytest.mark.parametrize("counts", [(60, 50), (20, 30), (30, 20), (20, 300), (300, 20)])
def test_fid_is_clean_fids(counts: tuple[int, int]) -> None:
    one, two = (gaussian(n, s * 0.3, s, dimension=40) for s, n in enumerate(counts))
    # Of fewer images than features, clean-fid may add to the covariances.
    tolerance = 1e-9 if min(counts) > 40 else 1e-6
    with contextlib.redirect_stdout(io.StringIO()):
        assert fid(one, two) == pytest.approx(fid_from_feats(one, two), rel=tolerance)


def test_fid_of_fewer_images_than_features_is_that_of_the_space_they_span() -> None:
    one, two = gaussian(30, 0.3), gaussian(60, seed=1)
    basis, _ = np.linalg.qr(gaussian(100, seed=2))  # eight axes of a hundred
    expected = fid(one, two)
    assert fid(one @ basis.T, two @ basis.T) == pytest.approx(expected, rel=1e-6)
    assert fid(two @ basis.T, one @ basis.T) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("count", [20, 60])
def test_fid_of_a_set_and_itself_is_zero(count: int) -> None:
    features = gaussian(count, dimension=40)
    assert abs(fid(features, features)) < 1e-6 * np.square(features).sum() / count


def test_kid_is_clean_fids() -> None:
    one, two = gaussian(60, 0.3), gaussian(50, seed=1)
    np.random.seed(7)  # noqa: NPY002
    assert kid(one, two, seed=7) == pytest.approx(kernel_distance(one, two), rel=1e-9)


@pytest.mark.parametrize(("counts", "size"), [((300, 400), 100), ((300, 3000), 20)])
def test_kid_draws_clean_fids_subsets_whichever_way_it_is_computed(
    counts: tuple[int, int], size: int
) -> None:
    one, two = gaussian(counts[0], 0.1), gaussian(counts[1], seed=1)
    np.random.seed(3)  # noqa: NPY002
    expected = kernel_distance(one, two, max_subset_size=size)
    assert kid(one, two, seed=3, subset_size=size) == pytest.approx(expected, rel=1e-9)


def test_fid_and_kid_are_torch_fidelitys() -> None:
    one, two = gaussian(80, 0.3), gaussian(80, seed=1)
    statistics = [fid_features_to_statistics(torch.from_numpy(side)) for side in (one, two)]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert fid(one, two) == pytest.approx(theirs, rel=1e-9)
    # At full size every subset is the whole set, so that the choice of subsets is immaterial.
    theirs = kid_features_to_metric(
        torch.from_numpy(one), torch.from_numpy(two), kid_subset_size=80, verbose=False
    )[KEY_METRIC_KID_MEAN]
    assert kid(one, two, seed=0) == pytest.approx(theirs, rel=1e-9)


def test_kid_of_two_laws_is_known_in_one_dimension() -> None:
    # (xy + 1)^3 compares the first three moments: 3 (dm1)^2 + 3 (dm2)^2 + (dm3)^2.
    shift = 0.7
    expected = 3 * shift**2 + 3 * shift**4 + (3 * shift + shift**3) ** 2
    found = [
        kid(gaussian(500, shift, s, 1), gaussian(500, seed=s + 100, dimension=1), 0)
        for s in range(30)
    ]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - expected) < 3 * error
    assert error < 0.05 * expected


def test_kid_of_equal_laws_is_zero_in_expectation() -> None:
    same = [kid(gaussian(100, seed=s), gaussian(100, seed=s + 50), 0) for s in range(20)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(20)
    assert min(same) < 0  # unbiased: the biased estimate is never negative


def test_kid_is_seeded_and_leaves_the_global_generator_alone() -> None:
    one, two = gaussian(1200, 0.1), gaussian(1200, seed=1)
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    first = kid(one, two, seed=5)
    assert np.random.random() == expected  # noqa: NPY002
    assert kid(one, two, seed=5) == first
    assert kid(one, two, seed=6) != first


def test_density_and_coverage_are_prdcs() -> None:
    samples, reference = gaussian(70, 0.4), gaussian(60, seed=1)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = compute_prdc(reference, samples, nearest_k=5)
    assert density_and_coverage(samples, reference) == (theirs["density"], theirs["coverage"])


def test_precision_and_recall_are_prdcs() -> None:
    samples, reference = gaussian(70, 0.4), gaussian(60, seed=1)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = compute_prdc(reference, samples, nearest_k=3)
    found = precision_and_recall(samples, reference)
    assert found == (theirs["precision"], theirs["recall"])
    assert 0 < found[1] < 1


def test_precision_and_recall_see_what_they_are_named_after() -> None:
    """In more images than are looked at at once, too."""
    reference, few = gaussian(1100, seed=1, dimension=3), gaussian(1100, dimension=3)
    real = precision_and_recall(few, reference)
    assert real is not None
    assert min(real) > 0.8
    narrow = precision_and_recall(0.1 * few, reference)  # all look real, most are missed
    assert narrow is not None
    assert narrow[0] > real[0]
    assert narrow[1] < 0.1
    wide = precision_and_recall(10 * few, reference)
    assert wide is not None
    assert wide[0] < 0.1
    assert wide[1] > 0.8
    assert precision_and_recall(few + 50.0, reference) == (0.0, 0.0)
    assert precision_and_recall(reference, reference) == (1.0, 1.0)
    assert precision_and_recall(gaussian(10), gaussian(3, seed=1)) is None
    assert precision_and_recall(gaussian(3), gaussian(10, seed=1)) is None


def test_density_and_coverage_of_equal_laws_have_known_means() -> None:
    found = [
        density_and_coverage(gaussian(80, seed=s), gaussian(40, seed=s + 500)) for s in range(60)
    ]
    pairs = np.array([pair for pair in found if pair is not None])
    missed = np.prod([(40 - j) / (40 + 80 - j) for j in range(1, 6)])
    error = pairs.std(axis=0) / np.sqrt(len(pairs))
    assert len(pairs) == 60
    assert (abs(pairs.mean(axis=0) - [1.0, 1.0 - missed]) < 3 * error).all()


def test_density_and_coverage_need_neighbours_and_notice_collapse() -> None:
    assert density_and_coverage(gaussian(10), gaussian(5, seed=1)) is None
    reference = gaussian(200, seed=1)
    collapsed = density_and_coverage(np.repeat(reference[:1], 100, axis=0), reference)
    assert collapsed is not None
    assert collapsed[1] < 0.1  # one mode
    assert density_and_coverage(gaussian(100, 50.0), reference) == (0.0, 0.0)


def test_fid_infinity_removes_the_bias_of_the_sample_count() -> None:
    reference = gaussian(20_000, seed=1, dimension=16)
    samples = gaussian(600, 0.1, dimension=16)
    truth = 16 * 0.1**2
    infinite = fid_infinity(samples, reference, seed=0, smallest=100)
    assert infinite is not None
    assert abs(infinite - truth) < 0.3 * abs(fid(samples, reference) - truth)
    assert fid_infinity(samples, reference, seed=0, smallest=100) == infinite
    assert fid_infinity(samples, reference, seed=1, smallest=100) != infinite


def test_fid_infinity_needs_as_many_samples_as_its_paper() -> None:
    assert fid_infinity(gaussian(9_999, dimension=2), gaussian(50, dimension=2), seed=0) is None
    assert fid_infinity(gaussian(10_000, dimension=2), gaussian(50, dimension=2), 0) is not None


@pytest.mark.parametrize(
    "score",
    [
        fid,
        lambda a, b: kid(a, b, 0),
        lambda a, b: fid_infinity(a, b, 0),
        density_and_coverage,
        precision_and_recall,
    ],
    ids=["fid", "kid", "fid_infinity", "density_and_coverage", "precision_and_recall"],
)
@pytest.mark.parametrize(
    ("features", "message"),
    [
        (gaussian(1), "at least 2"),
        (gaussian(5) * np.nan, "not finite"),
        (gaussian(5, dimension=3), "dimensions differ"),
    ],
    ids=["one", "nan", "dimension"],
)
def test_scores_refuse_what_has_no_score(score, features: Features, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        score(features, gaussian(5))
