"""Statistics against studies whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kod_bench.reports import frame_of, make_content
from kod_bench.reports.statistics import (
    estimate,
    estimates,
    holm,
    lowest_p,
    seeds_needed,
    sign_flip,
    welch_interval,
)
from tests.rows import make_row

STUDIES = 4_000


def covered(values: np.ndarray, truth: float) -> float:
    """Share of studies, a line each, whose interval holds the truth."""
    study = np.repeat(np.arange(len(values)), values.shape[1])
    found = estimates(pd.Series(values.ravel()), pd.Series(study))
    return float(((found["low"] <= truth) & (truth <= found["high"])).mean())


@pytest.mark.parametrize("seeds", [3, 4, 5, 8])
def test_intervals_hold_the_true_mean_in_95_of_100_studies(seeds: int) -> None:
    values = np.random.default_rng(seeds).normal(2.0, 0.3, (STUDIES, seeds))
    # Four standard errors of a share of 4,000.
    assert covered(values, 2.0) == pytest.approx(0.95, abs=0.014)
    # The percentile bootstrap would not: why the interval is Student's.
    resampled = np.random.default_rng(0).integers(0, seeds, (500, seeds))
    means = values[:500][:, resampled].mean(axis=2)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    assert ((low <= 2.0) & (high >= 2.0)).mean() < 0.925


def test_intervals_of_skewed_scores_are_little_short_of_95() -> None:
    # Scores that scatter by a factor of about 1.5 between seeds, far more than a KID does.
    values = np.random.default_rng(1).lognormal(0.0, 0.4, (STUDIES, 5))
    assert 0.915 <= covered(values, float(np.exp(0.08))) <= 0.96


def test_intervals_are_those_of_scipy() -> None:
    values = [1.0, 1.5, 0.7, 2.2]
    found = estimate(values)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_unpaired_intervals_are_those_of_scipy() -> None:
    ours, theirs = np.array([1.0, 1.5, 0.7, 2.2]), np.array([2.0, 2.1, 2.6])
    low, high = welch_interval(
        np.array([ours.mean()]),
        np.array([ours.std(ddof=1)]),
        np.array([4.0]),
        (float(theirs.mean()), float(theirs.std(ddof=1)), 3),
    )
    expected = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("seeds", [3, 5, 8, 12])
def test_sign_flips_are_those_of_scipy(seeds: int) -> None:
    differences = np.random.default_rng(seeds).normal(0.5, 1.0, (3, seeds))
    for line, p in zip(differences, sign_flip(differences), strict=True):
        exact = stats.permutation_test(
            (line,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
        )
        assert p == pytest.approx(exact.pvalue)


def test_many_seeds_flip_signs_at_random_and_still_find_a_difference() -> None:
    generator = np.random.default_rng(0)
    none, some = sign_flip(np.stack([generator.normal(0, 1, 20), generator.normal(2, 1, 20)]))
    assert none > 0.01
    assert some < 0.001


def test_holm_is_the_textbook_one() -> None:
    adjusted = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.9])).max() <= 1.0


def test_false_alarms_over_a_table_are_at_most_5_in_100() -> None:
    """Tables of 4 comparisons that share their Euclidean side, none with a difference."""
    generator = np.random.default_rng(3)
    alarms, tables = 0, 1_500
    for _ in range(tables):
        values = generator.normal(2.0, 0.3, (5, 9)) + generator.normal(0.0, 0.2, 9)
        alarms += holm(sign_flip(values[1:] - values[0])).min() <= 0.05
    assert alarms / tables <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / tables)
    assert alarms  # a test that never speaks would pass, too


def study(seeds: int, effect: float, deviation: float = 0.1) -> list[object]:
    generator = np.random.default_rng(7)
    rows: list[object] = []
    for seed in range(seeds):
        shared = generator.normal(2.0, 0.5)
        for model, process, shift in (("ddpm", "ddpm", 0.0), ("kod", "kuramoto", effect)):
            kid = shared + shift + generator.normal(0.0, deviation)
            rows.append(
                make_row(model=model, process=process, seed=seed, kid=kid, trial=f"{model}{seed}")
            )
    return rows


def group(rows: list[object]):  # type: ignore[no-untyped-def]
    return make_content(frame_of(rows), title="study").groups[0]  # type: ignore[arg-type]


def test_a_real_difference_is_found_on_paired_seeds_and_said() -> None:
    found = group(study(8, effect=-0.4))
    kid = found.differences[0]
    assert (kid.metric, kid.label, kid.other, kid.estimate.count) == ("kid", "kod", "ddpm", 8)
    assert kid.estimate.low is not None
    assert kid.estimate.high is not None
    assert kid.estimate.low < -0.4 < kid.estimate.high < 0
    assert kid.p_value == kid.adjusted == pytest.approx(2 / 2**8)
    assert "better in 1, worse in 0" in found.verdict[0]
    assert "kod has a KID" in found.verdict[1]
    # Seeds scatter by 0.5, so that unpaired cells would not be told apart.
    best = next(cell for cell in found.cells if cell.kid.is_best)
    other = next(cell for cell in found.cells if not cell.kid.is_best)
    assert best.label == "kod"
    assert other.kid.indistinguishable is False


def test_no_difference_is_not_claimed() -> None:
    found = group(study(8, effect=0.0))
    assert "better in 0, worse in 0, no difference shown in 1" in found.verdict[0]
    assert all(cell.kid.is_best or cell.kid.indistinguishable for cell in found.cells)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_few_seeds_cannot_say(seeds: int) -> None:
    found = group(study(seeds, effect=-3.0))
    assert "Not enough seeds to say" in found.verdict[0]
    assert "it takes 6" in found.verdict[0]
    assert not found.differences[0].enough_seeds
    assert (found.differences[0].estimate.low is None) == (seeds < 3)


def test_how_many_seeds_it_takes_grows_with_the_table() -> None:
    assert [seeds_needed(n) for n in (1, 2, 6)] == [6, 7, 8]
    assert [lowest_p(n) for n in (0, 1, 3)] == [1.0, 1.0, 0.25]


def test_equal_values_have_an_interval_without_width() -> None:
    found = estimate([1.5, 1.5, 1.5])
    assert (found.low, found.mean, found.high) == (1.5, 1.5, 1.5)
    assert sign_flip(np.zeros((1, 6)))[0] == 1.0
    equal = [
        make_row(model=m, process=p, seed=s, kid=1.0, trial=f"{m}{s}")
        for m, p in (("ddpm", "ddpm"), ("kod", "kuramoto"))
        for s in range(7)
    ]
    assert "no difference shown in 1" in group(equal).verdict[0]


def test_values_that_are_not_finite_are_left_out_with_their_pairs() -> None:
    rows = study(9, effect=-0.4)
    rows[0] = make_row(model="ddpm", process="ddpm", seed=0, kid=float("nan"), trial="ddpm0")
    found = group(rows)
    assert found.differences[0].estimate.count == 8
    assert "1 row has no finite KID." in found.notes


def test_only_equal_budgets_sizes_and_counts_are_paired() -> None:
    ddpm = [make_row(seed=s, trial=f"d{s}") for s in range(7)]
    base = {"model": "kod", "process": "kuramoto"}
    for change in (
        {"iterations": 601},
        {"batch_size": 33},
        {"parameters": 14_000},
        {"network_evaluations": 50},
        {"prior": "forward"},
    ):
        rows = [make_row(**base, **change, seed=s, trial=f"k{s}") for s in range(7)]
        assert group([*ddpm, *rows]).differences == ()
    nearly = [make_row(**base, parameters=12_400, seed=s, trial=f"k{s}") for s in range(7)]
    assert len(group([*ddpm, *nearly]).differences) == 2
