"""The strategy `optuna` where plan, rows and study are on an object store; no Ray."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from kod_bench.errors import UsageError
from kod_bench.results import provenance, read_trial, write_rows
from kod_bench.storage import ObjectFolder
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.sweep import LOCK_FILE, Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.search.early_stopping import Rung, judge, read_rungs
from kod_bench.sweeps.search.optuna_search import OptunaSearch
from kod_bench.sweeps.space import load_space
from kod_bench.sweeps.store.create import create_sweep
from kod_bench.sweeps.store.growth import grown, refreshed
from kod_bench.sweeps.store.locks import exclusive_lock
from kod_bench.sweeps.store.mirror import fetch_outcomes, publish_rows
from kod_bench.sweeps.store.open import open_planned, open_sweep
from tests.object_store import BUCKET, bucket_in_environment, serve_bucket
from tests.rows import make_row
from tests.sweeps.search.test_optuna_search import ONE


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serve_bucket() as url:
        yield url


@pytest.fixture
def sweep(server: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sweep]:
    path = tmp_path / "one.yaml"
    path.write_text(ONE.replace("trials: 12", "trials: 4, early_stopping: asha"))
    space = load_space(path, "default")
    with bucket_in_environment(server), pytest.MonkeyPatch.context() as patch:
        patch.setenv("KOD_BENCH_CACHE", str(tmp_path / "here"))
        yield create_sweep(
            space,
            make_trials(space, "hash"),
            results_dir=ObjectFolder(f"s3://{BUCKET}/{request.node.name}"),
            data_dir=None,
            provenance=provenance.collect(),
            hashes={variant.dataset: "hash" for variant in space.variants},
        )


def begin(sweep: Sweep) -> OptunaSearch:
    sweep = refreshed(sweep)
    fetch_outcomes(sweep)
    return OptunaSearch(sweep, lambda trial: read_trial(sweep.trial_folder(trial)))


def run(sweep: Sweep, trial: Trial) -> None:
    folder = sweep.trial_folder(trial)
    folder.mkdir(parents=True)
    write_rows(folder, [make_row(trial=trial.id, kid=1.0)])
    publish_rows(sweep, trial)


def test_a_search_goes_on_elsewhere(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep.remote is not None
    with exclusive_lock(sweep.folder / LOCK_FILE, 1):
        first = begin(sweep)
        (one,) = first.next_trials()
        first.publish()
        assert open_planned(sweep.remote, one.id)[1] == one  # a trial's process on this node
        (two,) = first.next_trials()  # killed before that is on the store: it never began
        assert [t.id for t in open_sweep(sweep.remote).trials] == [one.id, two.id]

    monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "elsewhere"))
    elsewhere = open_sweep(sweep.remote)
    assert elsewhere.folder != sweep.folder
    assert [trial.id for trial in elsewhere.trials] == [one.id]
    with pytest.raises(UsageError, match="has no trial"):
        open_planned(sweep.remote, two.id)
    run(elsewhere, one)
    second = begin(elsewhere)
    while trials := second.next_trials():
        second.publish()
        run(elsewhere, trials[0])
        second.ended(trials[0].id, [make_row(trial=trials[0].id, kid=1.0)])
    monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "here"))
    found = grown(sweep)
    assert found.trials == grown(elsewhere).trials
    assert len(found.trials) == found.total == 4

    sweep.remote.download(["study.journal"], tmp_path / "copy")
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "copy" / "study.journal"))
    storage = optuna.storages.JournalStorage(backend)
    study = optuna.load_study(study_name=sweep.name, storage=storage)
    assert [t.user_attrs["trials"] for t in study.trials] == [[t.id] for t in found.trials]
    assert {t.state.name for t in study.trials} == {"COMPLETE"}


def test_rungs_are_compared_across_nodes(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep.remote is not None
    search = begin(sweep)
    (one,), (two,) = search.next_trials(), search.next_trials()
    search.publish()
    sweep.trial_folder(one).mkdir(parents=True)
    assert judge(sweep, one, 10, 1.0)
    monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "elsewhere"))
    elsewhere, trial = open_planned(sweep.remote, two.id)
    elsewhere.trial_folder(trial).mkdir(parents=True)
    assert not judge(elsewhere, trial, 10, 2.0)


@pytest.mark.slow  # the store's client tries again for seconds before it gives up
def test_a_store_that_is_away_at_a_rung_stops_nobody(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = begin(sweep)
    (one,), (two,) = search.next_trials(), search.next_trials()
    search.publish()
    for trial in (one, two):
        sweep.trial_folder(trial).mkdir(parents=True)
    assert judge(sweep, one, 10, 1.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert sweep.remote is not None
    away = replace(sweep, remote=ObjectFolder(sweep.remote.uri))
    assert judge(away, two, 10, 2.0)
    assert read_rungs(sweep.trial_folder(two)) == {10: Rung(2.0, None)}
    monkeypatch.undo()
    assert not judge(sweep, two, 10, 2.0)  # a later attempt
