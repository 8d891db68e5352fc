"""A rehearsal's rows are no results: no ranking, comparison, reuse or rescoring takes them."""

from pathlib import Path

import pytest

from kod_bench.errors import UsageError
from kod_bench.reports.frame import frame_of
from kod_bench.reports.provenance import split_excluded
from kod_bench.results import write_rows
from kod_bench.sweeps.plan.rescoring import Rescoring
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.session import prepare_rescore
from kod_bench.sweeps.store.donors import reuse
from kod_bench.sweeps.store.find import NoSuchSweepError, find_sweep
from tests.conftest import Command
from tests.rows import make_row
from tests.sweeps.rehearsal.made import leave, rehearsal
from tests.trained import plan


@pytest.fixture
def done(tiny_space: Path, tmp_path: Path) -> Sweep:
    sweep = rehearsal(tiny_space, tmp_path / "results")
    for trial in sweep.trials:
        leave(sweep, trial)
    return sweep


def test_no_row_of_it_is_ranked() -> None:
    rows = [make_row(trial="a", seed=0), make_row(trial="b", seed=1, rehearsal=True, kid=-1.0)]
    kept, excluded = split_excluded(frame_of(rows))
    assert list(kept["trial"]) == ["a"]
    assert [(each.reason, each.trials) for each in excluded] == [
        ("of a rehearsal, which has no results", ("b",))
    ]


def test_it_is_never_the_newest_sweep(done: Sweep, tmp_path: Path) -> None:
    results = tmp_path / "results"
    assert done.name.endswith("-rehearsal")
    for name in (None, "tiny"):
        with pytest.raises(NoSuchSweepError):
            find_sweep(name, results)
    for name in (done.name, f"tiny/{done.name}", str(done.folder)):
        assert find_sweep(name, results).trials == done.trials


def test_nothing_is_taken_from_it(done: Sweep, tmp_path: Path) -> None:
    said: list[str] = []
    found = reuse(done.trials, [done], stops_early=False, say=said.append)
    assert found.count(None) == len(done.trials)
    assert said == [f"reuse: {done.shown} is a rehearsal and gives nothing"]
    with pytest.raises(UsageError, match="is a rehearsal, whose models are no results"):
        prepare_rescore(
            done,
            Rescoring({}),
            lambda _: True,
            results_dir=tmp_path,
            address=None,
            say=lambda _: None,
        )


def test_commands_say_what_it_is(
    call: Command, done: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = plan(tmp_path, tmp_path / "results")
    trial = real.trials[0]
    real.trial_folder(trial).mkdir()
    write_rows(real.trial_folder(trial), [make_row(trial=trial.id, space="trained")])
    monkeypatch.setenv("COLUMNS", "80")
    assert f"{done.folder} (rehearsal): not running; 3 done" in call("status", done.folder).stdout
    shown = call("report", done.folder)
    assert shown.returncode == 0
    assert "3 shapes of 3 trials: 3 done" in shown.stdout
    assert "KID" not in shown.stdout
    assert max(map(len, shown.stdout.splitlines()[:8])) <= 80
    assert not (done.folder / "report").exists()
    refused = call("compare", done.name, "published", "--results-dir", tmp_path / "results")
    assert refused.returncode == 2
    assert refused.stderr.strip().endswith("is a rehearsal, whose rows are no results")
    both = call("report", tmp_path / "results", "--markdown", "--terminal")
    assert "1 of 12 trials done" in both.stdout
    assert "kuramoto-local" not in both.stdout
    assert both.stderr == f"warning: {done.folder} is a rehearsal and is left out\n"


def test_it_is_one_or_the_other(call: Command, tiny_space: Path) -> None:
    refused = call("sweep", tiny_space, "--dry-run", "--rehearse")
    assert refused.returncode == 2
    assert refused.stderr == "error: --dry-run and --rehearse: choose one of them\n"
