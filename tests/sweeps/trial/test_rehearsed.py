"""The kill of a rehearsal, and what a process says that it took."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from kod_bench.sweeps.plan.failures import read_error
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.trial.rehearsed import KILLED, RehearsedCheckpoints, noting
from tests.trained import plan


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return replace(plan(tmp_path, tmp_path / "results"), rehearsal={})


def test_the_first_checkpoint_kills_and_no_other(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda process, number: killed.append((process, number)))
    trial = sweep.trials[0]
    RehearsedCheckpoints(sweep, trial).save(3, {"iteration": 3})
    assert killed == [(os.getpid(), signal.SIGKILL)]
    assert read_error(sweep.trial_folder(trial)) == KILLED
    again = RehearsedCheckpoints(sweep, trial)
    assert again.load_latest() == {"iteration": 3}  # it was whole before
    again.save(6, {"iteration": 6})
    assert len(killed) == 1


def test_what_it_took_is_noted_in_a_rehearsal_alone(sweep: Sweep) -> None:
    trial = sweep.trials[0]
    folder = sweep.trial_folder(trial)
    folder.mkdir(parents=True)
    with noting(replace(sweep, rehearsal=None), trial, "trial"):
        pass
    assert not list(folder.iterdir())
    with noting(sweep, trial, "trial"):
        held = b"0" * 10**7
    assert held
    said = json.loads((folder / "used-trial.json").read_text())
    assert 10**7 < said["memory"] < said["memory_there"]
    assert said["gpu"] is None
