"""The Monge inception distance: closed forms, one dimension by SciPy, counts that differ."""

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from kod_bench.evaluation.feature_sets import SpooledFeatures
from kod_bench.evaluation.sliced import _pieces, mind


def normal(count: int, width: int, seed: int, mean: float = 0.0, std: float = 1.0) -> np.ndarray:
    return mean + std * np.random.default_rng(seed).normal(size=(count, width))


def test_a_moved_set_is_three_times_its_move_squared_away() -> None:
    """E <u, d>^2 = |d|^2 / D."""
    one = normal(50, 16, 0)
    move = np.linspace(-1, 2, 16)
    found = mind(one + move, one, seed=3, projections=20_000)
    assert found == pytest.approx(3 * move @ move, rel=0.03)
    assert mind(one, one[::-1], seed=3) == 0


def test_a_widened_set_is_as_far_as_the_gaussian_formula_says() -> None:
    """Of N(0, 1) and N(0, s^2) along every direction (s - 1)^2; with D of them 3 D (s - 1)^2."""
    one, two = normal(20_000, 8, 0), normal(20_000, 8, 1, std=1.5)
    assert mind(one, two, seed=0, projections=100) == pytest.approx(3 * 8 * 0.25, rel=0.03)


def test_in_one_dimension_it_is_the_wasserstein_distance_of_counts_that_differ() -> None:
    # Of sets of which one lies above the other, W_1 is the difference of means; W_2 by repeating.
    one, two = normal(6, 1, 0), normal(4, 1, 1)
    twelve = [np.sort(np.repeat(side[:, 0], 12 // len(side))) for side in (one, two)]
    expected = 3 * np.mean((twelve[0] - twelve[1]) ** 2)
    assert mind(one, two, seed=0, projections=3) == pytest.approx(expected)
    assert wasserstein_distance(one[:, 0], two[:, 0]) ** 2 <= expected / 3


@pytest.mark.parametrize("counts", [(3, 7), (5, 5), (2, 9), (200, 131)])
def test_every_image_counts_and_all_alike(counts: tuple[int, int]) -> None:
    shares, *steps = _pieces(*counts)
    assert shares.sum() == pytest.approx(1)
    for count, which in zip(counts, steps, strict=True):
        np.testing.assert_allclose(np.bincount(which, shares), 1 / count)
    mine, theirs = (set(np.arange(1, n + 1) / n) for n in counts)
    assert len(shares) == len(mine | theirs)


def test_it_is_seeded_and_the_same_from_a_file() -> None:
    one, two = normal(300, 12, 0), normal(200, 12, 1, mean=0.2)
    found = mind(one, two, seed=5)
    assert mind(one, two, seed=5) == found
    assert mind(one, two, seed=6) == pytest.approx(found, rel=0.1)
    assert mind(one, two, seed=6) != found
    spooled = SpooledFeatures(300, 12)
    spooled[0:300] = one
    assert mind(spooled, two, seed=5) == pytest.approx(found, rel=1e-12)
