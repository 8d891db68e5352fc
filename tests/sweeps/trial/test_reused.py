"""Trials that begin with what others have done: rows adopted, models scored again or continued."""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import kod_bench
from kod_bench.errors import UsageError
from kod_bench.reports.frame import frame_of
from kod_bench.reports.provenance import split_excluded, trial_times
from kod_bench.results import Row, read_trial
from kod_bench.storage import Location, ObjectFolder
from kod_bench.sweeps import session
from kod_bench.sweeps.plan.rescoring import Rescoring
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.session import prepare_rescore, prepare_sweep
from kod_bench.sweeps.store import donors
from kod_bench.sweeps.store.bring import GoneError, adopt_rows
from kod_bench.sweeps.store.donors import with_donors
from kod_bench.sweeps.store.find import find_sweeps
from kod_bench.sweeps.store.open import open_sweep
from kod_bench.sweeps.trial import run as run_module
from kod_bench.sweeps.trial import scoring as scoring_module
from kod_bench.sweeps.trial.run import run_trial, train_and_score
from tests.object_store import BUCKET, bucket_in_environment, serve_bucket
from tests.sweeps.trial.test_drawing import Blocks, KilledError, kill_after, shards

SPACE = """
name: parents
dataset: {name: fingerprints, image_size: 16, scale: 0.25, synthetic: {fingers: 6, impressions: 2}}
network: {width: 8, multipliers: [1], blocks: 1}
training: {iterations: 4, batch_size: 8, log_every: 2, checkpoint_every: 2, warmup: 1}
evaluation: {samples: 20, references: 16, batch_size: 8}
models:
  ddpm: {process: ddpm, steps: 4}
profiles: {laptop: {}}
"""

#: What differs between two runs of one trial.
_OF_A_RUN = ("sweep", "trial", "config", "config_hash", "training_seconds", "sampling_seconds")
_OF_A_RUN += ("evaluation_seconds", "finished_at", "resumed_from", "reused", "marks")


@pytest.fixture(autouse=True, scope="module")
def _quick_features() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring_module, "make_extractor", lambda *_: Blocks())
        yield


def plan(
    folder: Path,
    *changes: str,
    reuse: Location | None = None,
    results: Location | None = None,
    said: list[str] | None = None,
) -> Sweep:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "parents.yaml"
    path.write_text(SPACE)
    results = results or folder / "results"
    return prepare_sweep(
        str(path),
        profile="laptop",
        data_dir=None,
        results_dir=results,
        seeds=None,
        address=None,
        say=(said if said is not None else []).append,
        changes=changes,
        reused=[] if reuse is None else find_sweeps([str(reuse)], results),
    )


def rescoring(parent: Sweep, results: Location | None = None, **how: Any) -> Sweep:
    return prepare_rescore(
        parent,
        Rescoring.of(how.pop("changes", []), **how),
        lambda _: True,
        results_dir=results or parent.folder.parents[1],
        address=None,
        say=lambda _: None,
    )


def run(sweep: Sweep) -> list[Row]:
    return run_trial(sweep, sweep.trials[0], lambda _: None, train_and_score)


def measured(rows: list[Row]) -> list[dict[str, Any]]:
    return [{k: v for k, v in asdict(row).items() if k not in _OF_A_RUN} for row in rows]


def test_a_likelihood_is_added_to_a_model_without_training_or_drawing(
    parent: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = rescoring(parent, changes=["evaluation.likelihood=4"])
    no_training(monkeypatch)
    drawn = kill_after(monkeypatch, 1000)
    (row,) = run(again)
    assert drawn == []
    (before,) = read_trial(parent.trial_folder(parent.trials[0])) or []
    assert before.bits_per_dimension is before.likelihood_images is None
    assert row.bits_per_dimension is not None
    assert math.isfinite(row.bits_per_dimension)
    assert (row.bits_per_dimension_error or 0) > 0
    assert (row.likelihood_images, row.likelihood_evaluations) == (4, 7)
    assert row.likelihood_method == "probability flow"
    assert row.likelihood is None
    assert row.kid == before.kid
    (read,) = read_trial(again.trial_folder(again.trials[0])) or []
    assert read == row


def no_training(patch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was trained")

    patch.setattr(run_module, "train", refuse)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> tuple[Sweep, list[Row]]:
    """A trained and scored trial that no test changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KOD_BENCH_CACHE", str(cache_dir))
        sweep = plan(tmp_path_factory.mktemp("done"))
        return sweep, run(sweep)


@pytest.fixture
def parent(done: tuple[Sweep, list[Row]], tmp_path: Path) -> Sweep:
    """A copy of it, to be changed at will."""
    results = tmp_path / "results"
    shutil.copytree(done[0].folder.parents[1], results)
    return open_sweep(results / "parents" / done[0].name)


def test_a_rescored_model_has_the_rows_of_one_trained_for_these_ways(
    parent: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = run(plan(tmp_path / "fresh", "models.ddpm.network_evaluations=[4, 2]"))
    again = rescoring(parent, network_evaluations=(4, 2))
    no_training(monkeypatch)
    drawn = kill_after(monkeypatch, 1000)
    rows = run(again)
    assert measured(rows) == measured(fresh)
    assert drawn == [0, 1, 2]  # of two evaluations; those of four were there
    before = read_trial(parent.trial_folder(parent.trials[0]))
    assert before is not None
    assert {row.trained_hash for row in (*rows, *before)} == {rows[0].trained_hash}
    assert rows[0].scored_hash != before[0].scored_hash
    assert {row.reused for row in rows} == {f"model of parents/{parent.name}/{parent.trials[0].id}"}
    assert before[0].reused is None
    models = [
        kod_bench.load(sweep.trial_folder(sweep.trials[0]), device="cpu")
        for sweep in (parent, again)
    ]
    assert models[0].weights == models[1].weights
    assert torch.equal(models[0].sample(10), models[1].sample(10))


def test_a_kill_in_a_rescoring_costs_no_bit(
    parent: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(rescoring(parent, changes=["evaluation.batch_size=4"]))
    again = rescoring(parent, changes=["evaluation.batch_size=4"])
    with pytest.MonkeyPatch.context() as patch:
        first = kill_after(patch, 3)
        with pytest.raises(KilledError):
            run(again)
    shutil.rmtree(parent.folder)  # what has begun stands by itself
    drawn = kill_after(monkeypatch, 1000)
    again = with_donors(open_sweep(again.folder))
    assert measured(run(again)) == measured(undisturbed)
    assert (len(first), len(drawn)) == (3, 2)


def test_more_samples_of_one_model_are_drawn_behind_those_that_are_there(
    parent: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = rescoring(parent, changes=["evaluation.samples=40"])
    drawn = kill_after(monkeypatch, 1000)
    (row,) = run(again)
    assert (row.sample_count, drawn) == (40, [3, 4])


def test_a_pruned_model_is_scored_as_pruned_ones_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = plan(
        tmp_path,
        "search={strategy: random, trials: 1, early_stopping: asha, "
        "asha: {min_iterations: 2, samples: 12}}",
        "models.ddpm.network_evaluations=[4, 2]",
        "training.learning_rate={loguniform: [0.0001, 0.001]}",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kod_bench.sweeps.search.early_stopping.goes_on", lambda *_: False)
        (before,) = run(sweep)
    assert before.pruned_at == 2
    again = rescoring(sweep, network_evaluations=(2,), changes=["evaluation.batch_size=4"])
    no_training(monkeypatch)
    (row,) = run(again)
    assert (row.pruned_at, row.iterations, row.sample_count) == (2, 2, 12)
    assert row.network_evaluations == 2
    assert "pruned at iteration 2 of 4" in str(row.marks)


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda path: path.unlink(), "is gone; put it back and resume"),
        (lambda path: path.write_bytes(b"torn"), "is damaged; put it back and resume"),
    ],
)
def test_a_checkpoint_that_breaks_after_planning_trains_nothing(
    parent: Sweep, monkeypatch: pytest.MonkeyPatch, break_it: Any, reason: str
) -> None:
    again = rescoring(parent)
    path = parent.trial_folder(parent.trials[0]) / "checkpoints" / "iteration-00000004.pt"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    break_it(path)
    no_training(monkeypatch)
    with pytest.raises(GoneError, match=reason) as failed:
        run(again)
    assert len(str(failed.value).splitlines()) == 1
    path.write_bytes(content)
    assert run(again)


def test_a_checkpoint_of_another_model_is_told(parent: Sweep, tmp_path: Path) -> None:
    again = rescoring(parent)
    other = plan(tmp_path / "other", "seeds=[7]")
    run(other)
    name = "checkpoints/iteration-00000004.pt"
    path = parent.trial_folder(parent.trials[0]) / name
    path.unlink()
    shutil.copy(other.trial_folder(other.trials[0]) / name, path)
    with pytest.raises(GoneError, match="holds another model than its rows are of"):
        run(again)


def test_what_cannot_be_rescored_is_refused_in_one_line(
    parent: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**how: Any) -> str:
        with pytest.raises(UsageError) as refused:
            rescoring(parent, **how)
        assert len(str(refused.value).splitlines()) == 1
        return str(refused.value)

    assert "ddpm, 4 steps: " in refused(samplers=("leapfrog",))
    assert "ddpm, 4 steps: " in refused(network_evaluations=(5,))
    assert "prior" in refused(priors=("matched-to-nothing",))
    assert "--set training: the models are trained already" in refused(
        changes=["training.iterations=9"]
    )
    assert "--set evaluation.sampels: unknown key; did you mean 'samples'?" in refused(
        changes=["evaluation.sampels=9"]
    )
    assert "--set evaluation.samples: 0 is not allowed" in refused(changes=["evaluation.samples=0"])
    with monkeypatch.context() as patch:
        patch.setattr(session, "current_code", lambda: "9.9+other")
        assert "trained by code" in refused()
    with monkeypatch.context() as patch:
        loaded = session.load_dataset

        def others(*said: Any) -> Any:
            return replace(loaded(*said), content_hash="others")

        patch.setattr(session, "load_dataset", others)
        assert "trained on other images" in refused()
    path = parent.trial_folder(parent.trials[0]) / "checkpoints" / "iteration-00000004.pt"
    path.unlink()
    assert "the checkpoint of iteration 4 is gone" in refused()
    (path.parents[1] / "row.parquet").unlink()
    assert "no trial is done yet" in refused()


def test_equal_trials_adopt_rows_and_all_that_belongs_to_them(
    parent: Sweep, tmp_path: Path
) -> None:
    said: list[str] = []
    sweep = plan(tmp_path, "seeds=[0, 1]", reuse=parent.location, said=said)
    line = next(each for each in said if each.startswith("reuse:"))
    assert "1 trials adopted, 0 re-scored, 0 continued, 1 new; saves 4 of 8" in line
    assert sweep.trials[0].config_hash == parent.trials[0].config_hash
    assert adopt_rows(sweep, sweep.trials[1]) is None
    rows = adopt_rows(sweep, sweep.trials[0])
    assert rows is not None
    before = read_trial(parent.trial_folder(parent.trials[0]))
    assert before is not None
    assert measured(rows) == measured(before)
    assert (rows[0].sweep, rows[0].space) == (sweep.name, "parents")
    assert rows[0].reused == f"rows of parents/{parent.name}/{parent.trials[0].id}"
    shutil.rmtree(parent.folder)
    folder = sweep.trial_folder(sweep.trials[0])
    assert read_trial(folder) == rows
    assert len(shards(sweep)) == 3
    names = {path.name.partition("-")[0] for path in folder.iterdir()}
    assert {"samples", "nearest", "trajectory", "measured", "history.jsonl"} <= names
    assert kod_bench.load(folder, device="cpu").sample(3).shape == (3, 1, 16, 16)
    # The rows of both in one report: one seed counts once, and its time, too.
    frame = frame_of([*before, *rows])
    kept, excluded = split_excluded(frame)
    assert len(kept) == 1
    assert "a later row has the same configuration and seed" in excluded[0].reason
    walls = dict(
        zip(*(trial_times(frame)[name] for name in ("sweep", "wall_seconds")), strict=True)
    )
    assert walls[sweep.name] == 0.0
    assert walls[parent.name] > 0.0


def test_who_shares_the_model_alone_scores_it_again(
    parent: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ("evaluation.references=12", "evaluation.keep_samples=none")
    sweep = plan(tmp_path, *changes, reuse=parent.location)
    assert adopt_rows(sweep, sweep.trials[0]) is None
    no_training(monkeypatch)
    (row,) = run(sweep)
    assert (row.reference_count, str(row.reused)[:9]) == (12, "model of ")
    # How many samples stay is no part of how a model is scored.
    same = plan(tmp_path, "evaluation.keep_samples=none", reuse=parent.location)
    assert adopt_rows(same, same.trials[0])
    assert not shards(same)


def test_a_longer_training_goes_on_from_the_checkpoint_and_the_row_says_so(
    parent: Sweep, tmp_path: Path
) -> None:
    sweep = plan(tmp_path, "training.iterations=8", reuse=parent.location)
    (row,) = run(sweep)
    assert (row.iterations, row.resumed_from, row.images_seen) == (8, 4, 64)
    assert row.reused == f"iteration 4 of parents/{parent.name}/{parent.trials[0].id}"
    assert "trained on from a model of 4 iterations" in str(row.marks)
    history = (sweep.trial_folder(sweep.trials[0]) / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in history] == [2, 4, 6, 8]
    # The parent's own goes no further.
    before = parent.trial_folder(parent.trials[0]) / "history.jsonl"
    assert len(before.read_text().splitlines()) == 2
    # What it says stays with the model.
    (again,) = run(rescoring(open_sweep(sweep.folder), changes=["evaluation.references=12"]))
    assert "trained on from a model of 4 iterations" in str(again.marks)
    shorter = plan(tmp_path, "training.iterations=2", reuse=parent.location)
    assert shorter.trials[0].reused is None


def test_what_is_unfinished_of_other_code_or_without_checkpoint_gives_nothing(
    parent: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines(*changes: str) -> str:
        said: list[str] = []
        sweep = plan(tmp_path, *changes, reuse=parent.location, said=said)
        assert sweep.trials[0].reused is None
        return "\n".join(line for line in said if line.startswith("reuse:"))

    with monkeypatch.context() as patch:
        patch.setattr(donors, "made_by", lambda donor: frozenset({"9.9+other"}))
        assert "1 trials were made by other code" in lines()
    folder = parent.trial_folder(parent.trials[0])
    (folder / "checkpoints" / "iteration-00000004.pt").unlink()
    assert "1 trials would begin with a model whose checkpoint is gone" in lines(
        "evaluation.references=12"
    )
    (folder / "row.parquet").write_bytes(b"torn")
    assert "1 of 1 trials are not done and give nothing (kod-bench resume finishes it)" in lines()


def test_rows_that_are_gone_are_made_again_from_the_model(
    parent: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = plan(tmp_path, reuse=parent.location)
    (parent.trial_folder(parent.trials[0]) / "row.parquet").unlink()
    assert adopt_rows(sweep, sweep.trials[0]) is None
    no_training(monkeypatch)
    assert run(sweep)


def test_a_strangers_plan_takes_nothing_that_its_user_has_not_named(
    parent: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = plan(tmp_path / "far", reuse=parent.location)
    (far.folder / "signature.json").unlink()
    with pytest.raises(UsageError, match="would read the models in") as refused:
        with_donors(far)
    assert f"--reuse {parent.location}" in str(refused.value)
    assert with_donors(far, [parent.folder]).donors == {str(parent.location): parent.folder}
    # Beside the plan, in the same results folder, is what its user has named already.
    near = plan(tmp_path, reuse=parent.location)
    (near.folder / "signature.json").unlink()
    moved = tmp_path / "moved"
    (tmp_path / "results").rename(moved)
    near = open_sweep(moved / "parents" / near.name)
    assert with_donors(near).donors == {
        str(parent.location): (moved / "parents" / parent.name).resolve()
    }


def test_somebody_elses_rows_are_taken_with_a_word(parent: Sweep, tmp_path: Path) -> None:
    (parent.folder / "signature.json").unlink()
    said: list[str] = []
    sweep = plan(tmp_path, reuse=parent.location, said=said)
    assert any("was not planned by you, or not here" in line for line in said)
    assert sweep.trials[0].reused is not None


def test_models_and_shards_on_an_object_store_are_rescored_from_another_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_bucket() as url, bucket_in_environment(url):
        results = ObjectFolder(f"s3://{BUCKET}/results")
        before = plan(tmp_path, results=results)
        (first,) = run(before)
        monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "elsewhere"))
        there = open_sweep(before.location)
        assert there.folder != before.folder
        again = rescoring(there, results, changes=["evaluation.references=12"])
        no_training(monkeypatch)
        drawn = kill_after(monkeypatch, 1000)
        (row,) = run(again)
        assert (drawn, row.kid_real is None) == ([], False)
        assert row.trained_hash == first.trained_hash
        assert again.remote is not None
        stored = (again.remote / "trials" / again.trials[0].id).list()
        assert "checkpoints/iteration-00000004.pt" in stored
        assert sum("shard-" in name for name in stored) == 3
        adopting = plan(tmp_path, reuse=before.location, results=results)
        rows = adopt_rows(adopting, adopting.trials[0])
        assert rows is not None
        assert measured(rows) == measured([first])


def test_a_plan_that_says_nonsense_of_what_is_reused_is_damaged(
    parent: Sweep, tmp_path: Path
) -> None:
    good = rescoring(parent).trials[0]
    assert good.reuse is not None
    for change in (
        {"kind": "all"},
        {"name": "../.."},
        {"trial": "../x"},
        {"iterations": -1},
        {"pruned_at": ""},
        {"seconds": "1"},
        {"sweep": "a\x1b"},
        {"more": 1},
    ):
        with pytest.raises(ValueError, match="reuse"):
            replace(good, reuse=good.reuse | change)
    assert Trial(**good.record) == good


def test_without_a_key_ones_own_command_is_enough(
    parent: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOD_BENCH_KEY", "/dev/null/key")
    far = plan(tmp_path / "far", reuse=parent.location)
    assert far.donors == {str(parent.location): parent.folder}
    assert adopt_rows(far, far.trials[0])
    elsewhere = rescoring(parent, tmp_path / "elsewhere")
    assert elsewhere.donors == {str(parent.location): parent.folder}


def test_a_strangers_space_names_no_folder_outside(parent: Sweep) -> None:
    with pytest.raises(UsageError, match="is no name of a folder"):
        rescoring(replace(parent, space="../.."))
