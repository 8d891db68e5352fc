"""Statistics against studies whose truth is known."""

import itertools

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
    t_test,
    welch,
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


def test_unpaired_intervals_and_p_values_are_those_of_scipy() -> None:
    ours, theirs = np.array([1.0, 1.5, 0.7, 2.2]), np.array([2.0, 2.1, 2.6, 2.5])
    low, high, p = of_samples(ours, theirs)
    expected = stats.ttest_ind(ours, theirs, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert (low, high) == pytest.approx((interval.low, interval.high))
    assert p == pytest.approx(expected.pvalue)


def test_where_one_side_has_fewer_seeds_its_own_freedom_is_the_most() -> None:
    ours, theirs = np.array([1.0, 1.5, 0.7, 2.2]), np.array([2.0, 2.1, 2.6])
    low, high, p = of_samples(ours, theirs)
    welchs = stats.ttest_ind(ours, theirs, equal_var=False)
    assert welchs.df > 2
    assert p == pytest.approx(2 * stats.t.sf(abs(welchs.statistic), 2))
    interval = welchs.confidence_interval(0.95)
    assert low < interval.low
    assert high > interval.high


def of_samples(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    sides = [
        (np.array([x.mean()]), np.array([x.std(ddof=1)]), np.array([1.0 * len(x)]))
        for x in (ours, theirs)
    ]
    low, high, p = welch(*((a, b) for a, b in zip(*sides, strict=True)))
    return float(low[0]), float(high[0]), float(p[0])


def test_paired_p_values_are_those_of_scipy() -> None:
    values = np.array([0.3, 0.1, -0.2, 0.5, 0.4, 0.2])
    error = np.array([values.std(ddof=1) / np.sqrt(6)])
    p = t_test(np.array([values.mean()]), error, np.array([5.0]))
    assert p[0] == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)
    # Without any scatter, any difference is one, and none is none.
    nothing = np.zeros(2)
    assert list(t_test(np.array([0.1, 0.0]), nothing, np.full(2, 5.0))) == [0.0, 1.0]


@pytest.mark.parametrize("seeds", [3, 5, 10, 11, 14])
def test_sign_flips_are_those_of_scipy(seeds: int) -> None:
    differences = np.random.default_rng(seeds).normal(0.5, 1.0, (3, seeds))
    for line, p in zip(differences, sign_flip(differences), strict=True):
        exact = stats.permutation_test(
            (line,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
        )
        assert p == pytest.approx(exact.pvalue)


def test_many_seeds_find_a_difference_by_sign_flips_too() -> None:
    generator = np.random.default_rng(0)
    for seeds in (20, 40):  # counted, and beyond
        none, some = sign_flip(np.stack([generator.normal(m, 1, seeds) for m in (0, 2)]))
        assert none > 0.01
        assert some < 1e-5


def test_sign_flips_of_many_seeds_are_the_t_test_where_that_takes_over() -> None:
    values = np.random.default_rng(1).normal(0.3, 1.0, (1, 32))
    assert sign_flip(values)[0] == pytest.approx(stats.ttest_1samp(values[0], 0).pvalue, rel=0.05)


def test_holm_is_the_textbook_one() -> None:
    adjusted = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.9])).max() <= 1.0
    # Of five hypotheses, the one that is not there is the last.
    assert holm(np.array([0.01, 0.04, 0.03, 0.005]), 5) == pytest.approx([0.04, 0.09, 0.09, 0.025])


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
    assert kid.is_paired
    assert kid.p_value == kid.adjusted < 0.001
    assert found.difference_table["p_sign_flip"][0] == pytest.approx(2 / 2**8)
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


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_cannot_say(seeds: int) -> None:
    found = group(study(seeds, effect=-3.0))
    assert "Not enough seeds to say" in found.verdict[0]
    assert "it takes 3" in found.verdict[0]
    assert found.differences[0].p_value is None
    assert found.differences[0].estimate.low is None


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_large_difference_is_found_from_three_seeds_on(seeds: int) -> None:
    found = group(study(seeds, effect=-3.0))
    assert "better in 1, worse in 0" in found.verdict[0]
    assert not found.differences[0].is_paired


def test_the_lowest_p_value_of_the_seeds_needed_is_low_enough_and_reached() -> None:
    assert [seeds_needed(n) for n in (1, 2, 6)] == [6, 7, 8]
    assert [lowest_p(n) for n in (0, 1, 3)] == [1.0, 1.0, 0.25]
    for comparisons in (*range(1, 4000), 10**6):
        needed = seeds_needed(comparisons)
        assert comparisons * lowest_p(needed) <= 0.05 < comparisons * lowest_p(needed - 1)
    for seeds in (1, 6, 16, 17, 20, 32):
        found = sign_flip(np.random.default_rng(seeds).uniform(1.0, 2.0, (1, seeds)))
        assert found[0] == lowest_p(seeds)


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


@pytest.mark.parametrize(
    ("counts", "deviations"),
    [
        ((3, 10), (1.0, 1.0)),
        ((3, 10), (2.0, 1.0)),
        ((3, 10), (1.0, 2.0)),
        ((3, 3, 3, 3, 10, 10, 10, 10), (1.0,) * 8),
        ((3, 3, 3, 3, 10, 10, 10, 10), (2.0,) * 4 + (1.0,) * 4),
    ],
)
def test_equal_models_of_which_some_lost_seeds_are_told_apart_in_5_of_100_tables(
    counts: tuple[int, ...], deviations: tuple[float, ...]
) -> None:
    generator, tables = np.random.default_rng(7), 4_000
    draws = [
        d * generator.normal(size=(tables, n)) for n, d in zip(counts, deviations, strict=True)
    ]
    pairs = list(itertools.combinations(range(len(counts)), 2))
    lowest = np.ones(tables)
    for a, b in pairs:
        sides = draws[a], draws[b]
        p = welch(
            (sides[0].mean(1), sides[1].mean(1)),
            (sides[0].std(1, ddof=1), sides[1].std(1, ddof=1)),
            (np.full(tables, counts[a]), np.full(tables, counts[b])),
        )[2]
        lowest = np.minimum(lowest, p * len(pairs))
    alarms = (lowest <= 0.05).mean()
    assert 0 < alarms <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / tables)
