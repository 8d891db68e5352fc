"""ASHA: its rule, its files, and trials that it prunes; all in this process, without Ray."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kod_bench.errors import UsageError
from kod_bench.reports import frame_of, make_content
from kod_bench.results import read_trial
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.search.early_stopping import (
    Rung,
    goes_on,
    judge,
    read_rungs,
    rung_iterations,
    rung_metric,
)
from kod_bench.sweeps.search.optuna_search import OptunaSearch
from kod_bench.sweeps.session import prepare_sweep
from kod_bench.sweeps.space import AshaOptions, MedianOptions
from kod_bench.sweeps.store.open import open_sweep
from kod_bench.sweeps.trial import run as trial_module
from kod_bench.sweeps.trial.run import run_trial, train_and_score
from kod_bench.sweeps.trial.subject import Subject
from tests.conftest import TINY_SPACE
from tests.rows import make_row

SPACE = (
    re.sub(r"  kuramoto-local:\n(    .*\n)+", "", TINY_SPACE)
    .replace("warmup: 5", "warmup: 5, learning_rate: {loguniform: [1e-4, 1e-2]}")
    .replace("{grid: [4, 8]}", "4")
    .replace(
        "profiles:",
        "search: {strategy: random, trials: 3, early_stopping: asha, "
        "asha: {reduction_factor: 2, samples: 12}}\nprofiles:",
    )
)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    path = tmp_path / "study.yaml"
    path.write_text(SPACE)
    return prepared(path)


def prepared(path: Path, *changes: str) -> Sweep:
    return prepare_sweep(
        str(path),
        profile="laptop",
        data_dir=None,
        results_dir=path.parent / "results",
        seeds=None,
        address=None,
        say=lambda _: None,
        changes=changes,
    )


def with_folder(sweep: Sweep, trial: Trial) -> Trial:
    sweep.trial_folder(trial).mkdir(parents=True)
    return trial


@pytest.mark.parametrize(
    ("value", "others", "expected"),
    [
        (5.0, [], True),  # the first one has nobody to be behind
        (5.0, [4.0], False),
        (4.0, [5.0], True),
        (2.0, [1.0, 3.0, 4.0], True),  # the second of four
        (3.0, [1.0, 2.0, 4.0], False),
        (float("nan"), [], False),
        (5.0, [float("nan")], True),
    ],
)
def test_the_better_half_goes_on(value: float, others: list[float], expected: bool) -> None:
    assert goes_on(value, others, AshaOptions(reduction_factor=2)) == expected


def test_trials_that_diverged_count_as_the_worst() -> None:
    diverged = [float("nan"), float("inf")] * 4
    asha, median = AshaOptions(reduction_factor=4), MedianOptions()
    assert goes_on(5.0, diverged, asha)
    assert goes_on(5.0, [4.0, *diverged], asha)
    assert not goes_on(5.0, [3.0, 4.0, *diverged], asha)
    assert goes_on(5.0, [3.0, 4.0, *diverged], median)
    assert not goes_on(float("inf"), diverged, median)


def test_of_many_one_in_the_reduction_factor_would_go_on() -> None:
    values = [float(value) for value in range(64)]
    for factor in (2, 4, 8):
        rule = AshaOptions(reduction_factor=factor)
        on = [v for v in values if goes_on(v, [o for o in values if o != v], rule)]
        assert on == values[: 64 // factor]


@pytest.mark.parametrize(
    ("value", "others", "expected"),
    [
        (9.0, [1.0, 2.0], True),  # too few to say
        (3.0, [1.0, 2.0, 4.0], True),  # their median is 2, but one more is needed
        (2.5, [1.0, 2.0, 3.0, 4.0], True),
        (2.6, [1.0, 2.0, 3.0, 4.0], False),
        (float("nan"), [], False),
    ],
)
def test_the_median_rule(value: float, others: list[float], expected: bool) -> None:
    assert goes_on(value, others, MedianOptions()) == expected


def test_rungs_of_the_median_rule_are_evenly_spaced(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(SPACE.replace("asha, asha: {reduction_factor: 2, samples: 12}", "median"))
    sweep = prepared(path)
    assert rung_iterations(sweep, sweep.trials[0]) == tuple(range(4, 40, 4))
    assert open_sweep(sweep.folder).early_stopping == MedianOptions()
    later = prepared(path, "search.median={min_iterations: 20, interval: 8}")
    assert rung_iterations(later, later.trials[0]) == (20, 28, 36)


def test_rungs_are_a_factor_apart_and_before_the_end(sweep: Sweep) -> None:
    trial = sweep.trials[0]
    assert rung_iterations(sweep, trial) == (10, 20)
    assert sweep.early_stopping is not None
    early = replace(
        sweep, early_stopping=sweep.early_stopping.model_copy(update={"min_iterations": 3})
    )
    assert rung_iterations(early, trial) == (3, 6, 12, 24)
    assert rung_iterations(replace(sweep, early_stopping=None), trial) == ()


def test_values_of_others_survive_and_a_decision_stays(sweep: Sweep) -> None:
    one, two, three = (with_folder(sweep, trial) for trial in sweep.trials)
    assert judge(sweep, one, 10, 2.0)
    again = open_sweep(sweep.folder)  # another process, after a kill
    assert not judge(again, two, 10, 3.0)
    assert judge(again, three, 10, 1.0)
    assert judge(again, three, 20, 9.0)  # alone at this rung
    assert read_rungs(sweep.trial_folder(one)) == {10: Rung(2.0, True)}
    assert read_rungs(sweep.trial_folder(two)) == {10: Rung(3.0, False)}
    assert read_rungs(sweep.trial_folder(three)) == {10: Rung(1.0, True), 20: Rung(9.0, True)}


def test_a_value_that_was_written_but_not_judged_counts_for_others(sweep: Sweep) -> None:
    one, two, _ = (with_folder(sweep, trial) for trial in sweep.trials)
    (sweep.trial_folder(one) / "rungs.json").write_text('{"10": {"kid": 1.0, "goes_on": null}}')
    assert not judge(sweep, two, 10, 2.0)


def test_other_seeds_are_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(SPACE)
    sweep = prepared(path, "seeds=[0, 1]")
    best, other = sweep.trials[0], sweep.trials[-1]
    assert (best.seed, other.seed) == (0, 1)
    assert judge(sweep, with_folder(sweep, best), 10, 1.0)
    assert judge(sweep, with_folder(sweep, other), 10, 2.0)


def test_pruned_trials_have_rows_that_say_so_and_are_ranked_with_none(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real trainings; what each has at its rungs is given, so that the second falls behind."""
    kids = iter([3.0, 2.5, 4.0, 1.0, 1.0])
    asked = []

    def rung_value(subject: Subject, network: nn.Module, device: torch.device) -> float:
        assert not network.training
        asked.append(subject.trial.id)
        return next(kids)

    monkeypatch.setattr(trial_module, "rung_value", rung_value)
    one, two, three = sweep.trials
    killed = KeyboardInterrupt()

    def die(*_: Any) -> Any:
        raise killed

    (full,) = run_trial(sweep, one, lambda _: None, train_and_score)
    # Killed after it was pruned, before its row was written: it is not trained, nor asked, again.
    with monkeypatch.context() as patch:
        patch.setattr(trial_module, "score", die)
        with pytest.raises(KeyboardInterrupt):
            run_trial(sweep, two, lambda _: None, train_and_score)
    assert read_trial(sweep.trial_folder(two)) is None
    (pruned,) = run_trial(sweep, two, lambda _: None, train_and_score)
    (best,) = run_trial(sweep, three, lambda _: None, train_and_score)
    assert asked == [one.id, one.id, two.id, three.id, three.id]

    assert (full.pruned_at, full.iterations, full.sample_count) == (None, 40, 16)
    assert (pruned.pruned_at, pruned.iterations, pruned.sample_count) == (10, 10, 12)
    assert pruned.images_seen == 10 * 8
    assert pruned.marks is not None
    assert pruned.marks.startswith("pruned at iteration 10 of 40; FID of 12 samples")
    assert read_trial(sweep.trial_folder(two)) == [pruned]
    assert best.pruned_at is None
    content = make_content(frame_of([full, pruned, best]), title="study")
    (group,) = content.groups
    assert {trial for cell in group.cells for trial in cell.trials} == {one.id, three.id}
    assert [(each.rows, each.trials) for each in content.provenance.excluded] == [(1, (two.id,))]


def test_a_rung_measures_what_the_row_of_a_pruned_trial_says(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, _ = sweep.trials
    folder = sweep.trial_folder(with_folder(sweep, one))
    (folder / "rungs.json").write_text('{"10": {"kid": -100.0, "goes_on": true}}')
    (row,) = run_trial(sweep, two, lambda _: None, train_and_score)
    assert row.pruned_at == 10
    assert read_rungs(sweep.trial_folder(two))[10].value == pytest.approx(row.kid, rel=1e-4)


def test_pruned_and_full_rows_share_no_table_at_equal_counts() -> None:
    full = make_row(model="a", trial="a")
    both = [full, replace(full, model="b", trial="b", pruned_at=10)]
    (group,) = make_content(frame_of(both), title="study").groups
    assert [cell.trials for cell in group.cells] == [("a",)]
    assert make_content(frame_of(both[1:]), title="study").groups == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "search.early_stopping=hyperband",
            r"early_stopping: 'hyperband' is not allowed: .*'asha' or 'median'",
        ),
        ("search.median.interval=5", r"median is for early_stopping: median"),
        (
            "search.asha.min_iterations=40",
            r"40 is not before the end of any trial",
        ),
        ("training.iterations={int: [40, 80]}", r"say search.asha.min_iterations"),
        ("dataset.image_size={choice: [16, 32]}", r"images cannot be compared.*use grid"),
        ("search.asha.reduction_factor=1", r"asha.reduction_factor: 1 is not allowed"),
        ("search.asha.max=1", r"asha.max: unknown key; allowed: min_iterations, reduction_factor"),
        ("search.early_stopping=null", r"asha is for early_stopping: asha"),
        ("search.strategy=grid", r"search"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(SPACE)
    with pytest.raises(UsageError, match=message) as caught:
        prepared(path, change)
    assert "\n" not in str(caught.value)


def of_angles(tmp_path: Path, strategy: str = "strategy: random") -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(SPACE.replace("strategy: random", strategy))
    return path


XY = ("dataset={name: xy, image_size: 8, xy: {count: 60}}",)


@pytest.mark.slow
def test_on_angles_it_goes_by_their_headline(tmp_path: Path) -> None:
    sweep = prepared(of_angles(tmp_path), *XY)
    one, two, _ = sweep.trials
    assert {rung_metric(sweep, trial) for trial in sweep.trials} == {"correlation_distance"}
    folder = sweep.trial_folder(with_folder(sweep, one))
    (folder / "rungs.json").write_text('{"10": {"correlation_distance": -1.0, "goes_on": true}}')
    (row,) = run_trial(sweep, two, lambda _: None, train_and_score)
    assert row.pruned_at == 10
    (rung,) = read_rungs(sweep.trial_folder(two)).values()
    assert rung.goes_on is False
    assert rung.value == pytest.approx(row.correlation_distance, rel=1e-4)
    said = json.loads((sweep.trial_folder(two) / "rungs.json").read_text())
    assert list(said["10"]) == ["correlation_distance", "goes_on"]


@pytest.mark.parametrize("metric", ["vortex_density_difference", "correlation_distance"])
def test_what_optuna_goes_by_on_angles_decides_at_rungs(tmp_path: Path, metric: str) -> None:
    path = of_angles(tmp_path, f"strategy: optuna, metric: {metric}")
    sweep = open_sweep(prepared(path, *XY).folder)
    assert sweep.stopping_metric == metric
    (trial, *_) = OptunaSearch(sweep, lambda _: None).next_trials()
    assert rung_metric(sweep, trial) == metric


@pytest.mark.parametrize(
    ("strategy", "changes", "message"),
    [
        ("strategy: optuna, metric: fid", (), "early_stopping goes by one metric of few samples"),
        ("strategy: optuna, metric: [kid, fid]", (), "metric must be one of kid, correlation_dis"),
        ("strategy: optuna, metric: energy_difference", (), "is of data sets of angles alone"),
        ("strategy: optuna", XY, "kid is of the hues of angles; possible: corr"),
    ],
)
def test_rungs_have_what_they_go_by(
    tmp_path: Path, strategy: str, changes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        prepared(of_angles(tmp_path, strategy), *changes)
    assert "\n" not in str(caught.value)


def test_a_damaged_rung_counts_for_nobody(tmp_path: Path) -> None:
    for text in ("{}", '{"kid": 1, "energy_difference": 2}', '{"kid": true}', '{"kid": 1, "x": 1}'):
        (tmp_path / "rungs.json").write_text(f'{{"10": {text}}}')
        assert read_rungs(tmp_path) == {}
