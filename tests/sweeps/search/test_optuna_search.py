"""The strategy `optuna` on real plans on disk, with a quick function in place of training."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from kod_bench.errors import UsageError
from kod_bench.results import Row, provenance, read_trial, write_rows
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.search.optuna_search import OptunaSearch
from kod_bench.sweeps.search.study_file import STUDY_FILE, TRIALS
from kod_bench.sweeps.space import SearchSpace, load_space
from kod_bench.sweeps.store.create import create_sweep
from kod_bench.sweeps.store.growth import grown
from kod_bench.sweeps.store.open import open_planned, open_sweep
from kod_bench.sweeps.store.plugged import check_trusted
from tests.rows import make_row

STUDY = """
name: study
dataset: {name: fingerprints, image_size: 16}
network: {width: 8, multipliers: [1, 2], blocks: 1}
training: {iterations: 40}
models:
  local:
    process: kuramoto
    steps: {grid: [4, 8]}
    coupling: {choice: [local, global]}
    neighbourhood_radius: {int: [1, 6], when: {coupling: local}}
    training: {learning_rate: {loguniform: [1e-4, 1e-2]}}
  ddpm: {process: ddpm, steps: 4}
search: {strategy: optuna, trials: 5}
"""

ONE = """
name: one
dataset: {name: fingerprints, image_size: 16}
network: {width: 8, multipliers: [1, 2], blocks: 1}
training: {iterations: 40, learning_rate: {loguniform: [1e-4, 1e-2]}}
models: {ddpm: {process: ddpm, steps: 4}}
search: {strategy: optuna, trials: 12, sampler_options: {n_startup_trials: 4}}
"""


def plan(tmp_path: Path, text: str, *changes: str) -> Sweep:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    space: SearchSpace = load_space(path, "default", changes=changes)
    return create_sweep(
        space,
        make_trials(space, "hash"),
        results_dir=tmp_path / "results",
        data_dir=None,
        provenance=provenance.collect(),
        hashes={variant.dataset: "hash" for variant in space.variants},
    )


def begin(sweep: Sweep) -> OptunaSearch:
    sweep = grown(sweep)
    return OptunaSearch(sweep, lambda trial: read_trial(sweep.trial_folder(trial)))


def ask(search: OptunaSearch) -> list[Trial]:
    trials = search.next_trials()
    search.publish()
    return trials


def rate(trial: Trial) -> float:
    found: float = trial.training["learning_rate"]
    return found


def run(sweep: Sweep, trial: Trial, **values: float) -> list[Row]:
    """As a trial would: its KID is best at a learning rate of 1e-3."""
    rows = [make_row(trial=trial.id, **{"kid": abs(math.log10(rate(trial)) + 3), **values})]
    folder = sweep.trial_folder(trial)
    folder.mkdir(parents=True)
    write_rows(folder, rows)
    return rows


def finish(
    sweep: Sweep, search: OptunaSearch, value: Callable[[Trial], float] | None = None
) -> int:
    count = 0
    while trials := ask(search):
        for trial in trials:
            rows = run(sweep, trial, **({} if value is None else {"kid": value(trial)}))
            search.ended(trial.id, rows)
            count += 1
    return count


def studies(sweep: Sweep) -> dict[str, optuna.Study]:
    """As any program of Optuna's reads the file."""
    backend = optuna.storages.journal.JournalFileBackend(str(sweep.folder / STUDY_FILE))
    storage = optuna.storages.JournalStorage(backend)
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage) for name in names}


def points(sweep: Sweep) -> list[str]:
    found = []
    for trial in grown(sweep).trials:
        values = {k: v for k, v in trial.values.items() if k not in ("seed", "model")}
        found.append(json.dumps(values, sort_keys=True))
    return found


def test_every_grid_point_gets_its_trials_and_the_others_are_there_once(tmp_path: Path) -> None:
    sweep = plan(tmp_path, STUDY)
    assert [trial.model for trial in sweep.trials] == ["ddpm"]
    assert sweep.total == 2 * 5 + 1
    assert finish(sweep, begin(sweep), lambda _: 1.0) == 10
    trials = grown(sweep).trials
    assert sorted(t.steps for t in trials if t.process == "kuramoto") == [4] * 5 + [8] * 5
    assert len(set(points(sweep))) == len(trials) == 11
    for trial in trials:  # as a trial's own process reads it
        assert open_planned(sweep.folder, trial.id)[1] == trial


def test_conditions_are_kept_in_plan_and_study(tmp_path: Path) -> None:
    sweep = plan(tmp_path, STUDY, "search.trials=8")
    finish(sweep, begin(sweep), lambda _: 1.0)
    name = sweep.name
    found = studies(sweep)
    assert set(found) == {f"{name} local steps=4", f"{name} local steps=8"}
    seen = set()
    for study in found.values():
        for trial in study.trials:
            local = trial.params["coupling"] == "local"
            assert ("neighbourhood_radius" in trial.params) == local
            seen.add(local)
            planned = open_planned(sweep.folder, trial.user_attrs[TRIALS][0])[1]
            assert planned.parameters["coupling"] == trial.params["coupling"]
            assert rate(planned) == trial.params["training.learning_rate"]
    assert seen == {True, False}


def test_it_learns(tmp_path: Path) -> None:
    """Drawn evenly, points are half a decade from the best on average."""
    sweep = plan(tmp_path, ONE, "search.trials=40", "search.sampler_options.n_startup_trials=8")
    finish(sweep, begin(sweep))
    away = [abs(math.log10(rate(trial)) + 3) for trial in grown(sweep).trials]
    assert sum(away[-16:]) / 16 < 0.33
    (study,) = studies(sweep).values()
    assert study.study_name == sweep.name
    assert study.best_value == min(away)


def test_a_killed_driver_is_continued_without_repeating_a_point(tmp_path: Path) -> None:
    sweep = plan(tmp_path, ONE)
    first = begin(sweep)
    begun = [trial for _ in range(5) for trial in ask(first)]
    for trial in begun[:3]:
        first.ended(trial.id, run(sweep, trial))
    # Killed: two trials have no row, one finished when nobody looked. What the study has to say of
    # them is cut off in the middle of a line, and its lock stays.
    run(sweep, begun[3])
    journal = sweep.folder / STUDY_FILE
    with journal.open("ab") as file:
        file.write(b'{"op_code":8,"wor')
    journal.with_name(f"{STUDY_FILE}.lock").symlink_to(journal)

    again = grown(sweep)
    assert [trial.id for trial in again.trials] == [trial.id for trial in begun]
    second = begin(sweep)
    run_again = begun[4]
    second.ended(run_again.id, run(sweep, run_again))
    assert finish(sweep, second) == 12 - 5
    assert len(set(points(sweep))) == 12
    (study,) = studies(sweep).values()
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 12
    assert [t.user_attrs[TRIALS] for t in study.trials] == [[t.id] for t in grown(sweep).trials]
    for trial in study.trials:
        rows = read_trial(sweep.trials_folder / trial.user_attrs[TRIALS][0])
        assert rows is not None
        assert trial.value == rows[0].kid
    assert not (sweep.folder / f"{STUDY_FILE}.damaged").exists()


def test_the_same_sampler_seed_after_a_resume_draws_other_points(tmp_path: Path) -> None:
    text = ONE.replace("sampler_options: {n_startup_trials: 4}", "sampler: random")
    sweep = plan(tmp_path, text)
    first = ask(begin(sweep))
    second = ask(begin(sweep))
    assert rate(first[0]) != rate(second[0])


def test_a_space_of_few_points_is_taken_once_and_ends(tmp_path: Path) -> None:
    sweep = plan(tmp_path, ONE, "training.learning_rate={choice: [1e-4, 1e-3, 1e-2]}")
    assert sweep.total == 3
    assert finish(sweep, begin(sweep)) == 3
    assert {rate(trial) for trial in grown(sweep).trials} == {1e-4, 1e-3, 1e-2}
    assert ask(begin(sweep)) == []


def test_a_point_is_worth_the_mean_over_its_seeds(tmp_path: Path) -> None:
    sweep = plan(tmp_path, ONE, "seeds=[0, 1]", "search.trials=1")
    search = begin(sweep)
    one, two = ask(search)
    assert (one.seed, two.seed, one.model) == (0, 1, two.model)
    search.ended(one.id, run(sweep, one, kid=1.0))
    assert [t.state.name for t in next(iter(studies(sweep).values())).trials] == ["RUNNING"]
    search.ended(two.id, run(sweep, two, kid=2.0))
    (trial,) = next(iter(studies(sweep).values())).trials
    assert (trial.state.name, trial.value) == ("COMPLETE", 1.5)


def test_a_failure_waits_and_is_the_same_trial_of_the_study_afterwards(tmp_path: Path) -> None:
    sweep = plan(tmp_path, ONE, "search.trials=1")
    search = begin(sweep)
    (trial,) = ask(search)
    search.ended(trial.id, None, "loss is nan")
    (shown,) = next(iter(studies(sweep).values())).trials
    assert (shown.state.name, shown.user_attrs["failed"]) == (
        "WAITING",
        f"{trial.id}: loss is nan",
    )
    again = begin(sweep)
    assert ask(again) == []
    again.ended(trial.id, run(sweep, trial))
    (shown,) = next(iter(studies(sweep).values())).trials
    assert shown.state.name == "COMPLETE"


@pytest.mark.parametrize("damage", ["gone", "nonsense", "cut"])
def test_the_study_is_made_again_from_plan_and_rows(tmp_path: Path, damage: str) -> None:
    sweep = plan(tmp_path, ONE, "search.trials=4")
    finish(sweep, begin(sweep))
    journal = sweep.folder / STUDY_FILE
    before = [(t.params, t.value) for t in next(iter(studies(sweep).values())).trials]
    content = journal.read_bytes()
    journal.unlink()
    if damage != "gone":
        journal.write_bytes(b"nonsense\n" * 3 if damage == "nonsense" else content[:-400])
    begin(sweep)
    assert [(t.params, t.value) for t in next(iter(studies(sweep).values())).trials] == before


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "gp"])
def test_every_sampler_goes_on_after_a_resume(tmp_path: Path, sampler: str) -> None:
    sweep = plan(
        tmp_path,
        ONE.replace(", sampler_options: {n_startup_trials: 4}", f", sampler: {sampler}"),
        "training.ema_decay={uniform: [0.5, 0.9]}",
        "search.trials=14",
    )
    search = begin(sweep)
    for _ in range(11):
        (trial,) = ask(search)
        search.ended(trial.id, run(sweep, trial))
    assert finish(sweep, begin(sweep)) == 3
    assert len(set(points(sweep))) == 14


def test_several_metrics_make_a_front(tmp_path: Path) -> None:
    sweep = plan(tmp_path, ONE, "search.metric=[kid, seconds_per_sample]", "search.trials=5")
    search = begin(sweep)
    while trials := ask(search):
        kid = rate(trials[0])
        rows = run(sweep, trials[0], kid=kid, sampling_seconds=256 / (1 + 1e3 * kid))
        search.ended(trials[0].id, rows)
    (study,) = studies(sweep).values()
    assert [d.name for d in study.directions] == ["MINIMIZE", "MINIMIZE"]
    assert len(study.best_trials) == 5  # each is best in one or between
    for trial in study.trials:
        assert trial.values[1] == pytest.approx(1 / (1 + 1e3 * trial.values[0]))


def test_a_pruned_point_is_told_as_such_and_never_the_best(tmp_path: Path) -> None:
    sweep = plan(tmp_path, ONE, "search.early_stopping=asha", "search.trials=4")
    search = begin(sweep)
    for number in range(3):
        (trial,) = ask(search)
        folder = sweep.trial_folder(trial)
        folder.mkdir(parents=True)
        rows = [make_row(trial=trial.id, kid=float(number), pruned_at=None if number else 10)]
        write_rows(folder, rows)
        search.ended(trial.id, rows)
    for _ in range(2):  # as it goes on, and as it is begun again
        (study,) = studies(sweep).values()
        assert [t.state.name for t in study.trials] == ["PRUNED", "COMPLETE", "COMPLETE"]
        assert study.trials[0].intermediate_values == {10: 0.0}
        assert study.best_value == 1.0
        (sweep.folder / STUDY_FILE).unlink()
        search = begin(sweep)
    assert len(ask(search)) == 1


def test_lists_among_choices_come_back_as_lists(tmp_path: Path) -> None:
    choice = "network.multipliers={choice: [[1, 2], [1, 4]]}"
    sweep = plan(tmp_path, ONE, choice, "search.trials=3")
    finish(sweep, begin(sweep))
    for trial in grown(sweep).trials:
        assert trial.network["multipliers"] in ([1, 2], [1, 4])
    begin(sweep)


def test_a_plan_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    sweep = plan(tmp_path, ONE)
    finish(sweep, begin(sweep))
    path = sweep.folder / "trials.jsonl"
    content = path.read_text()
    path.write_text(content.replace('"seed": 0', '"seed": 1', 1).replace("local", "lokal"))
    with pytest.raises(UsageError, match="damaged"):
        open_sweep(sweep.folder)
    head, line, *rest = content.splitlines(keepends=True)
    values = json.loads(line)
    values["own"]["model"] = "another"
    path.write_text("".join([head, json.dumps(values) + "\n", *rest]))
    with pytest.raises(UsageError, match=r"damaged: .* is not what its name says"):
        open_sweep(sweep.folder)


def test_a_strangers_search_names_no_code(tmp_path: Path) -> None:
    sweep = plan(tmp_path, ONE)
    assert sweep.growth is not None
    check_trusted(sweep, None)
    evaluation = {**sweep.growth.evaluation, "features": "evil:Extractor"}
    strange = replace(sweep, growth=replace(sweep.growth, evaluation=evaluation))
    with pytest.raises(UsageError, match="imports the feature extractor 'evil:Extractor'"):
        check_trusted(strange, None)


def test_what_is_pickled_in_a_strangers_study_stays_so(tmp_path: Path) -> None:
    """CMA-ES keeps its state pickled in the study: the one that it reads is never the file's."""
    text = ONE.replace("sampler_options: {n_startup_trials: 4}", "sampler: cmaes")
    sweep = plan(tmp_path, text, "training.ema_decay={uniform: [0.5, 0.9]}")
    search = begin(sweep)
    for _ in range(3):
        (trial,) = ask(search)
        search.ended(trial.id, run(sweep, trial))
    exploded = tmp_path / "exploded"
    bomb = b"cbuiltins\nopen\n(V" + str(exploded).encode() + b"\nVw\ntR."
    journal = sweep.folder / STUDY_FILE
    attributes = json.dumps({"cma:optimizer:0": bomb.hex()}, separators=(",", ":"))
    journal.write_text(
        journal.read_text().replace('"system_attrs":{}', f'"system_attrs":{attributes}')
    )
    (study,) = studies(sweep).values()
    study.sampler = optuna.samplers.CmaEsSampler()
    with pytest.raises(AttributeError):  # what it unpickles is an open file
        study.ask({k: v for t in study.trials for k, v in t.distributions.items()})
    exploded.unlink()
    assert finish(sweep, begin(sweep)) == 9
    assert not exploded.exists()


def test_a_complete_plan_is_not_searched(tmp_path: Path) -> None:
    sweep = plan(tmp_path, ONE)
    with pytest.raises(ValueError, match="complete"):
        OptunaSearch(replace(sweep, growth=None), lambda _: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "search.metric=nearest_distance",
            r"search: metric 'nearest_distance' cannot be searched by: neither low nor high is "
            r"good; possible: kid, fid",
        ),
        ("search.metric=[kid,memorised_share]", r"metric 'memorised_share' cannot be searched by"),
        ("search.metric=kidd", r"search: metric 'kidd' is unknown; known: kid, fid"),
        ("search.mode=max", r"search: mode must say what is good of each metric: kid min"),
        ("search.sampler=tpee", r"search.sampler: 'tpee' is not allowed: .*'tpe'.*'cmaes'"),
        ("search.sampler_options={n_startup: 3}", r"n_startup: unknown key; sampler tpe has: n_st"),
        ("search.sampler_options.n_startup_trials=0", r"n_startup_trials: Input should be great"),
        ("search={strategy: random, metric: fid}", r"metric is for strategy optuna, not random"),
        ("search.metric=[kid, kid]", r"metric: one is given twice"),
        ("search.trials=null", r"strategy optuna needs trials"),
        (
            "search={sampler: cmaes, sampler_options: {}, metric: [kid, fid]}",
            r"cmaes goes by one metric",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        plan(tmp_path, ONE, change)
    assert "\n" not in str(caught.value)
