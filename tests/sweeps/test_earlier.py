"""A sweep that an earlier version began, kept in `earlier/`: one trial done, one at iteration 2.

Made by version 0.1.0 at commit bc518ef from the space beside it, on built-in textures of 8 x 8
pixels; pictures, logs and event files are left out.
"""

import shutil
from pathlib import Path

import pytest

from kod_bench.results import read_trial
from kod_bench.sweeps.plan.make import current_code
from kod_bench.sweeps.store.find import find_sweep
from kod_bench.sweeps.trial.run import run_trial, train_and_score
from tests.conftest import Command


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder with a copy of the sweep."""
    root = tmp_path / "results"
    shutil.copytree(Path(__file__).parent / "earlier", root / "earlier" / "20261129-155100")
    return root


def test_its_plan_is_read_as_it_was_meant(results: Path) -> None:
    sweep = find_sweep(None, results)
    assert [trial.id for trial in sweep.trials] == [
        "kuramoto-local-T4-seed0-c7e905d0",
        "kuramoto-local-T4-seed1-427b6a0d",
    ]
    assert sweep.code != current_code()


def test_what_is_done_stays_and_the_rest_goes_on_from_its_checkpoint(results: Path) -> None:
    sweep = find_sweep(None, results)
    finished, begun = sweep.trials
    before = read_trial(sweep.trial_folder(finished))
    assert before is not None
    assert run_trial(sweep, finished, lambda _: None, train_and_score) == before
    (row,) = run_trial(sweep, begun, lambda _: None, train_and_score)
    assert (row.resumed_from, row.resumed_exactly) == (2, False)
    assert before[0].resumed_exactly is None
    assert (row.data_hash, row.config_hash) == (before[0].data_hash, begun.config_hash)
    assert row.reference_hash == before[0].reference_hash


@pytest.mark.slow
def test_resume_and_report_as_a_user_types_them(results: Path, kod_bench: Command) -> None:
    resumed = kod_bench("resume", "--results-dir", results)
    assert resumed.returncode == 0, resumed.stderr
    assert "2 done" in kod_bench("status", "--results-dir", results).stdout
    reported = kod_bench("report", "--results-dir", results)
    assert reported.returncode == 0, reported.stderr
    assert (results / "earlier/20261129-155100/report/report.html").is_file()
