"""Trials that hang: one that sleeps for ever, and a worker that the kernel has stopped."""

import os
import re
import signal
from pathlib import Path

import pytest

from benchmarks.chaos import session_processes
from tests.cli.processes import edit, only_sweep, row_files, started, trial_process, wait_for
from tests.conftest import PATIENCE, Command

#: A user's own extractor. One trial's scoring sleeps for ever: whichever finds the folder there. It
#: sleeps before it holds the lock of the reference, for which the other would wait as long.
SLEEPER = """
import os, sys, time

class Sleeper:
    name = "sleeper"

    def __init__(self, device):
        if "default_worker" in sys.argv[0]:  # of Ray, not the driver
            try:
                os.rmdir(os.environ["SLEEP_ONCE"])
            except OSError:
                pass
            else:
                while True:
                    time.sleep(1)

    def __call__(self, images):
        return images.flatten(1)[:, :64].double().numpy()
"""
LIMIT = "  laptop: {resources: {time_limit_minutes: %s}}"


def without_kuramoto(space: Path) -> None:
    space.write_text(re.sub(r"  kuramoto-local:\n(    .*\n)+", "", space.read_text()))


@pytest.mark.endurance
def test_a_stopped_process_is_ended_and_its_neighbour_is_not(
    kod_bench: Command, command: list[str], tiny_space: Path, tmp_path: Path
) -> None:
    without_kuramoto(tiny_space)
    edit(tiny_space, "iterations: 40", "iterations: 400")
    edit(tiny_space, "  laptop: {}", LIMIT % 2)
    results = tmp_path / "results"
    with started(command, "sweep", tiny_space, "--results-dir", results) as sweep:
        wait_for(lambda: [*results.glob("tiny/*/trials/*/checkpoints/*.pt")], "a checkpoint")
        folder = only_sweep(results)
        victim = next(iter(folder.glob("trials/*/checkpoints/*.pt"))).parent.parent
        os.kill(trial_process(victim), signal.SIGSTOP)
        _, err = sweep.communicate(timeout=PATIENCE)
        assert sweep.returncode == 1
        wait_for(lambda: not session_processes(sweep.pid), "Ray's processes to end")
    failed, retry = err.splitlines()
    assert failed == f"failed {victim.name}: over resources.time_limit_minutes (2), ended"
    assert retry == f"retry with: kod-bench resume {folder}"
    assert len(row_files(folder)) == 1
    done = kod_bench("resume", folder)
    assert done.returncode == 0, done.stderr
    assert len(row_files(folder)) == 2


@pytest.mark.slow
def test_a_sleeping_trial_is_ended_and_says_where_it_slept(
    kod_bench: Command,
    command: list[str],
    tiny_space: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    once = tmp_path / "once"
    once.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("SLEEP_ONCE", str(once))
    without_kuramoto(tiny_space)
    edit(tiny_space, "batch_size: 16}", "batch_size: 32, features: 'sleeper:Sleeper'}")
    edit(tiny_space, "  laptop: {}", LIMIT % 1)
    results = tmp_path / "results"
    done = kod_bench("sweep", tiny_space, "--results-dir", results)
    assert done.returncode == 1, done.stderr
    folder = only_sweep(results)
    failed, _ = done.stderr.splitlines()
    (missing,) = {p.name for p in folder.glob("trials/*")} - set(row_files(folder))
    assert failed == f"failed {missing}: over resources.time_limit_minutes (1), ended"
    log = (folder / "trials" / missing / "log.txt").read_text()
    assert "Timeout" in log
    assert "sleeper.py" in log
    resumed = kod_bench("resume", folder, "--extractor", "sleeper:Sleeper")
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.endurance
def test_a_stopped_worker_of_two_is_ended(
    kod_bench: Command, command: list[str], tiny_space: Path, tmp_path: Path
) -> None:
    without_kuramoto(tiny_space)
    edit(tiny_space, "steps: {grid: [4, 8]}", "steps: 4")
    edit(tiny_space, "iterations: 40", "iterations: 3000")
    edit(
        tiny_space,
        "  laptop: {}",
        "  laptop: {resources: {workers_per_trial: 2, time_limit_minutes: 1}}",
    )
    results = tmp_path / "results"
    with started(command, "sweep", tiny_space, "--results-dir", results) as sweep:
        wait_for(lambda: [*results.glob("tiny/*/trials/*/checkpoints/*.pt")], "a checkpoint")
        workers = [
            process
            for process, line in session_processes(sweep.pid).items()
            if "RayTrainWorker" in line
        ]
        assert len(workers) == 2
        os.kill(workers[1], signal.SIGSTOP)
        _, err = sweep.communicate(timeout=PATIENCE)
        assert sweep.returncode == 1
        wait_for(lambda: not session_processes(sweep.pid), "Ray's processes to end")
    assert "over resources.time_limit_minutes (1), ended" in err
    edit_limit = only_sweep(results) / "sweep.yaml"
    edit(edit_limit, "time_limit_minutes: 1.0", "time_limit_minutes: null")
    assert kod_bench("resume", only_sweep(results)).returncode == 0
