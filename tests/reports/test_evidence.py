"""What a table tells apart, against studies whose truth is known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from kod_bench.reports import frame_of, make_content
from kod_bench.reports.cells import cells_of, numbered
from kod_bench.reports.content import MOST_SHOWN, Cell, Group
from kod_bench.reports.differences import differences, find_pairs, sentences
from kod_bench.reports.evidence import adjust, gather
from kod_bench.reports.figures import Chart, content_figures
from kod_bench.reports.groups import make_groups
from kod_bench.reports.layout import comparison_table, difference_table
from kod_bench.reports.ranking import rank
from kod_bench.reports.statistics import estimates
from tests.rows import make_row

TABLES = 1_500


def smallest_p(scores: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The lowest adjusted p-value of each of many tables.

    Args:
        scores: (tables, models, seeds).
        seeds: (models, seeds) the seeds' numbers.
    """
    tables, models, count = scores.shape
    cell = np.repeat(np.arange(tables * models), count)
    rows = pd.DataFrame(
        {"cell": cell, "seed": np.tile(seeds.ravel(), tables), "kid": scores.ravel()}
    )
    cells = estimates(rows["kid"], rows["cell"]).add_prefix("kid_")
    # A table is a number of evaluations here: cells are compared within it alone.
    cells = cells.assign(is_ranked=True, network_evaluations=cells.index // models)
    none = pd.DataFrame({"first": [], "second": []}, dtype=np.int64)
    pairs = gather(cells, rows, ("kid",), none).pairs
    each = pairs.groupby(pairs["first"] // models)
    assert len(each) == tables
    alone = models * (models - 1) // 2
    return np.array([adjust(table, alone)["adjusted"].min() for _, table in each])


EQUAL = {
    "2 models, 3 seeds": (2, 3, 0.0, 1.0),
    "8 models, 3 seeds": (8, 3, 0.0, 1.0),
    "8 models, 3 seeds, deviations 1 to 3": (8, 3, 0.0, 3.0),
    "8 models, 3 seeds that move all models": (8, 3, 1.0, 1.0),
    "16 models, 5 seeds": (16, 5, 0.0, 1.0),
    "16 models, 5 seeds, deviations 1 to 3": (16, 5, 0.0, 3.0),
    "8 models, 8 seeds that move all models, deviations 1 to 3": (8, 8, 2.0, 3.0),
    "4 models, 6 seeds": (4, 6, 0.0, 1.0),
}


@pytest.mark.parametrize("case", EQUAL)
@pytest.mark.parametrize("are_shared", [True, False])
def test_of_tables_of_equal_models_at_most_5_in_100_deny_one_to_be_the_best(
    case: str, are_shared: bool
) -> None:
    models, seeds, shared, ratio = EQUAL[case]
    generator = np.random.default_rng(models * seeds)
    deviation = np.geomspace(1.0, ratio, models)[:, None]
    scores = deviation * generator.normal(size=(TABLES, models, seeds))
    numbers = np.arange(models * seeds).reshape(models, seeds)
    if are_shared:
        scores += shared * generator.normal(size=(TABLES, 1, seeds))
        numbers %= seeds
    alarms = (smallest_p(scores, numbers) <= 0.05).mean()
    assert alarms <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / TABLES)
    if not (are_shared and shared):
        assert alarms > 0  # a test that never speaks would pass, too


def test_a_clear_difference_is_found_among_many_models() -> None:
    """Seven of 8 are equal, and the best is lower by so many deviations that most tables tell."""
    generator = np.random.default_rng(0)
    for seeds, shift, power in ((3, 40.0, 0.9), (5, 8.0, 0.9), (8, 4.0, 0.9)):
        scores = generator.normal(size=(300, 8, seeds))
        scores[:, 0] -= shift
        numbers = np.tile(np.arange(seeds), (8, 1))
        assert (smallest_p(scores, numbers) <= 0.05).mean() >= power


def made(models: dict[str, str], seeds: int, shift: float, count: int, place: str) -> pd.DataFrame:
    """Rows of many reports; the structured models are lower by `shift` standard deviations.

    Args:
        models: their processes, by name.
        seeds: of each.
        shift: see above.
        count: of reports.
        place: the column that tells them apart.
    """
    generator = np.random.default_rng(11)
    return frame_of(
        [
            make_row(
                **{place: number + 1 if place == "network_evaluations" else f"d{number:03}"},
                model=model,
                process=process,
                seed=seed,
                kid=2.0 + 0.1 * generator.normal() - 0.1 * shift * (process == "kuramoto"),
            )
            for number in range(count)
            for model, process in models.items()
            for seed in range(seeds)
        ]
    )


TWO = {"kod": "kuramoto", "ddpm": "ddpm"}


@pytest.mark.parametrize(("seeds", "shift"), [(3, 2.0), (8, 1.0)])
def test_the_marks_of_120_tables_say_what_their_sentences_say(seeds: int, shift: float) -> None:
    # All at once, and adjusted as if each were alone: of two models, which is not at all.
    rows = numbered(made(TWO, seeds, shift, 120, "network_evaluations"))
    cells = cells_of(rows)
    pairs = find_pairs(cells)
    evidence = gather(cells, rows, ("kid",), pairs[["first", "second"]])
    alone = evidence.pairs.assign(adjusted=evidence.pairs["p_value"])
    evidence = dataclasses.replace(evidence, pairs=alone)
    cells = rank(cells, ("kid",), evidence).set_index(["label", "network_evaluations"])
    lines = differences(pairs, cells_of(rows), rows, evidence)
    better = worse = 0
    for evaluations, table in lines[lines["metric"] == "kid"].groupby("network_evaluations"):
        (said, *_) = sentences(table, "Structured minus Euclidean")
        assert "Not enough seeds" not in said
        marks = {
            name: cells.loc[(name, evaluations), ["kid_is_best", "kid_indistinguishable"]].tolist()
            for name in TWO
        }
        if "better in 1" in said:
            better += 1
            assert marks == {"kod": [True, False], "ddpm": [False, False]}
        elif "worse in 1" in said:
            worse += 1
            assert marks == {"kod": [False, False], "ddpm": [True, False]}
        else:
            assert "no difference shown in 1" in said
            assert [mark for _, mark in marks.values()] == [True, True]
    assert 10 <= better <= 110  # both are seen
    assert worse <= 2


def denied(group: Group) -> set[str]:
    """The models that are told not to be the best."""
    return {
        cell.label
        for cell in group.cells
        if cell.kid.indistinguishable is False and not cell.kid.is_best
    }


def check_agreement(group: Group) -> int:
    """Check a report's marks by its differences; return how many of these are told."""
    kid = [line for line in group.differences if line.metric == "kid"]
    losers = set()
    for line, shown in zip(kid, difference_table(kid, "kid").lines, strict=True):
        if shown[-1].text in ("better", "worse"):
            losers.add(line.other if shown[-1].text == "better" else line.label)
    assert losers <= denied(group)
    (best,) = (cell for cell in group.cells if cell.kid.is_best)
    # Bold without a mark: all the others are told to be worse.
    alone = len(denied(group)) == len(group.cells) - 1
    assert best.kid.indistinguishable is not alone
    if len(group.cells) == 2:
        assert losers == denied(group)
    return len(losers)


FOUR = {"a": "kuramoto", "b": "kuramoto", "ddpm": "ddpm", "edm": "edm"}


def test_no_model_that_a_sentence_calls_worse_is_left_as_perhaps_the_best() -> None:
    groups = make_groups(made(FOUR, 4, 2.5, 6, "dataset"))
    assert 0 < sum(map(check_agreement, groups)) < 12


@pytest.mark.slow
@pytest.mark.parametrize("models", [TWO, FOUR])
@pytest.mark.parametrize(("seeds", "shift"), [(3, 2.0), (3, 6.0), (8, 1.0)])
def test_the_marks_of_30_reports_say_what_their_sentences_say(
    models: dict[str, str], seeds: int, shift: float
) -> None:
    for group in make_groups(made(models, seeds, shift, 30, "dataset")):
        told = check_agreement(group)
        assert ("better in 0, worse in 0" in group.verdict[0]) is (told == 0)


def kid_cells(*models: tuple[str, list[float]]) -> dict[str, Cell]:
    rows = [
        make_row(model=model, seed=seed, kid=kid)
        for model, scores in models
        for seed, kid in enumerate(scores)
    ]
    return {cell.label: cell for cell in make_content(frame_of(rows), title="x").groups[0].cells}


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_nothing_is_bold_without_a_mark(seeds: int) -> None:
    rows = [
        make_row(model=model, seed=seed, kid=kid, spectrum_distance=kid, spectrum_distance_real=0.1)
        for model, kid in (("a", 1.0), ("b", 9.0))
        for seed in range(seeds)
    ]
    (group,) = make_content(frame_of(rows), title="x").groups
    table = comparison_table(group)
    shown = [cell for line in table.lines for cell in line if cell.bold]
    assert shown
    assert all(cell.text.endswith(" ~") for cell in shown)
    assert any("Nothing is told apart: it takes 3 seeds" in note for note in group.notes)


def test_fid_of_few_samples_has_no_marks_and_of_many_has() -> None:
    for samples in (256, 2048):
        rows = [
            make_row(model=m, seed=s, fid=f + s, sample_count=samples)
            for m, f in (("a", 10.0), ("b", 90.0))
            for s in range(3)
        ]
        (group,) = make_content(frame_of(rows), title="x").groups
        bold = [line[3].bold for line in comparison_table(group).lines]
        assert bold == [False, samples == 2048, False]
        assert any("No FID is marked" in note for note in group.notes) is (samples < 2048)
        said = "in KID and FID" if samples == 2048 else "in KID."
        assert any(said in note for note in group.notes if note.startswith("Told apart"))


def test_a_model_of_which_one_seed_survived_is_not_the_best() -> None:
    full = [1.0, 1.1, 0.9, 1.05, 0.95]
    nan = float("nan")
    for one in ([0.5], [0.5, nan, nan, nan, nan]):
        found = kid_cells(("lucky", one), ("full", full), ("other", [x + 1 for x in full]))
        assert [found[name].kid.is_best for name in ("lucky", "full", "other")] == [0, 1, 0]
        # Nor is it excluded, nor are others by it.
        assert found["lucky"].kid.indistinguishable
        assert found["full"].kid.indistinguishable
        assert found["other"].kid.indistinguishable is False


def test_a_model_of_which_one_seed_survived_sets_no_mark_on_the_pareto_front() -> None:
    rows = [
        make_row(model=model, seed=seed, kid=kid + seed / 100, sampling_seconds=seconds)
        for model, kid, seeds, seconds in (("lucky", 0.5, 1, 10.0), ("full", 1.0, 5, 20.0))
        for seed in range(seeds)
    ]
    (group,) = make_content(frame_of(rows), title="x").groups
    chart = next(c for c in content_figures(group, {}) if c.name == "kid-against-seconds")
    assert isinstance(chart, Chart)
    assert [y for _, y in chart.front] == pytest.approx([1.02])


def test_of_many_cells_the_best_is_shown_whatever_stands_before_it() -> None:
    rows = [
        make_row(model=model, network_evaluations=n, seed=seed, kid=kid)
        for n in range(1, MOST_SHOWN + 1)
        for model, kid, seeds in (("lucky", 0.5, 1), ("full", 1.0, 2))
        for seed in range(seeds)
    ]
    (group,) = make_content(frame_of(rows), title="x").groups
    assert len(group.cells) == MOST_SHOWN
    assert all(cell.label == "full" and cell.kid.is_best for cell in group.cells)


def test_opponents_with_enough_seeds_are_met_first() -> None:
    rows = [
        make_row(model=model, process=process, seed=seed, kid=kid, trial=f"{model}{seed}")
        for model, process, kid, seeds in (
            ("kod", "kuramoto", 1.0, 3),
            *((f"lucky{i}", "ddpm", 0.5, 1) for i in range(8)),
            *((f"full{i}", "ddpm", 2.0, 3) for i in range(7)),
        )
        for seed in range(seeds)
    ]
    (group,) = make_content(frame_of(rows), title="x").groups
    met = [line.other for line in group.differences if line.metric == "kid"]
    assert sum(other.startswith("full") for other in met) == 7
    assert len(met) == 8


def test_a_model_with_fewer_seeds_is_the_best_if_it_is_told_apart() -> None:
    full = [1.0, 1.1, 0.9, 1.05, 0.95]
    close = kid_cells(("few", [0.9, 1.0, 1.1, 0.95]), ("full", full))
    assert close["full"].kid.is_best
    clear = kid_cells(("few", [0.1, 0.12, 0.11, 0.13]), ("full", full))
    assert clear["few"].kid.is_best
    assert clear["few"].kid.indistinguishable is False
    assert clear["full"].kid.indistinguishable is False


def test_how_many_seeds_have_a_score_is_in_the_table() -> None:
    rows = [make_row(seed=s, kid=float("nan") if s else 1.0) for s in range(5)]
    (group,) = make_content(frame_of(rows), title="x").groups
    table = comparison_table(group)
    assert table.lines[1][table.columns.index("Seeds")].text == "1 of 5"


def test_all_numbers_of_evaluations_and_both_metrics_share_one_adjustment() -> None:
    rows = [
        make_row(
            model=model,
            process=process,
            seed=seed,
            network_evaluations=evaluations,
            kid=kid + seed / 50,
            spectrum_distance=kid + (seed % 3) / 20,
            spectrum_distance_real=0.1,
        )
        for model, process, kid in (("a", "kuramoto", 1.0), ("ddpm", "ddpm", 1.4), ("e", "edm", 3))
        for seed in range(4)
        for evaluations in (100, 25)
    ]
    (group,) = make_content(frame_of(rows), title="x").groups
    # 3 pairs, 2 numbers of evaluations, 2 metrics.
    assert any("over all 12 differences of two models" in note for note in group.notes)
    assert sum("Told apart means" in note for note in group.notes) == 1
    lowest = min(d.adjusted for d in group.differences if d.adjusted is not None)
    assert lowest == pytest.approx(12 * min(d.p_value for d in group.differences if d.p_value))
