"""Ctrl-C and SIGTERM, as a terminal and a job scheduler send them to a real sweep."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.chaos import session_processes
from kod_bench.hangup import ECHO_SECONDS
from tests.cli.processes import (
    computing,
    edit,
    frozen,
    only_sweep,
    row_files,
    short_and_long,
    started,
    trial_process,
    wait_for,
)
from tests.conftest import PATIENCE, Command

SIGNALS = [
    pytest.param(signal.SIGINT, id="ctrl-c"),
    pytest.param(signal.SIGTERM, id="sigterm", marks=pytest.mark.endurance),
]


def training_begun(results: Path, model: str = "") -> bool:
    files = results.glob(f"tiny/*/trials/{model}*/history.jsonl")
    return any(path.stat().st_size for path in files)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_one_signal_saves_what_is_running_and_resume_finishes_it(
    kod_bench: Command,
    command: list[str],
    tiny_space: Path,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    short_and_long(tiny_space)
    edit(tiny_space, "checkpoint_every: 10", "checkpoint_every: 100000")
    results = tmp_path / "results"
    with started(command, "sweep", tiny_space, "--results-dir", results) as sweep:
        wait_for(lambda: training_begun(results, "long"), "the long trial to train")
        folder = only_sweep(results)
        (long,) = folder.glob("trials/long-*")
        with frozen(trial_process(long)):
            wait_for(lambda: row_files(folder), "the short trial's row")
            sweep.send_signal(number)
            wait_for(lambda: (folder / "stop").exists(), "the request")
        out, err = sweep.communicate(timeout=PATIENCE)
        assert sweep.returncode == 130, err
        wait_for(lambda: not session_processes(sweep.pid), "Ray's processes to end")
    assert "stopping: trials save where they are" in out
    assert "run_on_ray" not in out  # Tune's own words
    assert err.splitlines() == [
        "stopped: 1 of 2 trials are done, those that ran have saved where they were. "
        f"Continue with: kod-bench resume {folder}"
    ]
    (saved,) = (long / "checkpoints").iterdir()
    assert not [*folder.glob("trials/*/error.json")]
    assert not (folder / "stop").exists()
    status = kod_bench("status", folder).stdout
    assert "interrupted" in status
    assert "failed" not in status
    if number == signal.SIGTERM:
        return  # what was saved is the same

    before = row_files(folder)
    done = kod_bench("resume", folder)
    assert done.returncode == 0, done.stderr
    after = row_files(folder)
    assert after.keys() == {*before, long.name}
    assert {trial: after[trial] for trial in before} == before
    (row,) = pq.read_table(long / "row.parquet").to_pylist()
    assert f"iteration-{row['resumed_from']:08d}.pt" == saved.name
    assert 0 < row["resumed_from"] < 600
    records = [json.loads(line) for line in (long / "history.jsonl").open()]
    assert [r["iteration"] for r in records] == list(range(5, 601, 5))


@pytest.mark.endurance
@pytest.mark.parametrize("ignored", [False, True], ids=["shell", "nohup"])
def test_a_closed_terminal_saves_what_is_running_unless_under_nohup(
    command: list[str], tiny_space: Path, tmp_path: Path, ignored: bool
) -> None:
    short_and_long(tiny_space)
    edit(tiny_space, "checkpoint_every: 10", "checkpoint_every: 100000")
    results = tmp_path / "results"
    terminal, end = pty.openpty()

    def as_a_shell_would() -> None:
        os.setsid()
        fcntl.ioctl(end, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)

    where = {"stdin": end, "stdout": end, "stderr": end}
    # Quiet, since nobody reads the terminal: what waits to be read would hold up the sweep.
    order = [*command, "sweep", str(tiny_space), "--results-dir", str(results), "--quiet"]
    sweep = subprocess.Popen(order, preexec_fn=as_a_shell_would, **where)
    os.close(end)
    try:
        wait_for(lambda: training_begun(results, "long"), "the long trial to train")
        folder = only_sweep(results)
        (long,) = folder.glob("trials/long-*")
        with frozen(trial_process(long)):
            os.close(terminal)  # the kernel tells the foreground group, Ray's processes with it
            if not ignored:
                wait_for(lambda: (folder / "stop").exists(), "the request")
        if ignored:
            wait_for(lambda: len(row_files(folder)) == 2, "both rows")
        code = sweep.wait(PATIENCE)
        assert ignored or code == 130
        wait_for(lambda: not session_processes(sweep.pid), "Ray's processes to end")
    finally:
        sweep.kill()
        sweep.wait()
    if not ignored:
        assert [*(long / "checkpoints").iterdir()]
        assert not [*folder.glob("trials/*/error.json")]


@pytest.mark.slow
def test_two_signals_stop_at_once(
    kod_bench: Command, command: list[str], tiny_space: Path, tmp_path: Path
) -> None:
    edit(tiny_space, "iterations: 40", "iterations: 100000")
    results = tmp_path / "results"
    with started(command, "sweep", tiny_space, "--results-dir", results) as sweep:
        wait_for(lambda: [*results.glob("tiny/*/trials/*/checkpoints/*.pt")], "a checkpoint")
        folder = only_sweep(results)
        with frozen(*computing(sweep.pid)):  # trials that do not look at the request
            sweep.send_signal(signal.SIGINT)
            wait_for(lambda: (folder / "stop").exists(), "the request")
            time.sleep(ECHO_SECONDS)  # sooner, it would be the same one, passed on
            sweep.send_signal(signal.SIGINT)
        _, err = sweep.communicate(timeout=PATIENCE)
        assert sweep.returncode == 130
        wait_for(lambda: not session_processes(sweep.pid), "Ray's processes to end")
    assert f"interrupted. Continue with: kod-bench resume {folder}" in err
    assert len(err.strip().splitlines()) == 1
    assert [*folder.glob("trials/*/checkpoints/*.pt")]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_before_the_sweep_begins_ends_it_quietly(
    command: list[str],
    tiny_space: Path,
    tmp_path: Path,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nothing is prepared yet: the images are drawn one after the other, which takes its time.
    edit(tiny_space, "fingers: 6, impressions: 2", "fingers: 500, impressions: 8")
    monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "cache"))
    with started(command, "sweep", tiny_space, "--results-dir", tmp_path / "results") as sweep:
        wait_for(lambda: [*(tmp_path / "cache").glob("*")], "the preparation")
        sweep.send_signal(number)
        _, err = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 130
    assert "Traceback" not in err
    assert not [*(tmp_path / "results").glob("*/*/sweep.yaml")]
