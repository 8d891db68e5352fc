"""Ctrl-C and SIGTERM, as a terminal and a job scheduler send them to a real sweep."""

import json
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.chaos import session_processes
from tests.cli.processes import (
    edit,
    only_sweep,
    row_files,
    started,
    wait_for,
)
from tests.conftest import Command

TRIALS = 3
SIGNALS = [
    pytest.param(signal.SIGINT, id="ctrl-c"),
    pytest.param(signal.SIGTERM, id="sigterm", marks=pytest.mark.slow),
]


def training_begun(results: Path) -> bool:
    return any(path.stat().st_size for path in results.glob("tiny/*/trials/*/history.jsonl"))


@pytest.mark.parametrize("number", SIGNALS)
def test_one_signal_saves_what_is_running(
    kod_bench: Command,
    command: list[str],
    tiny_space: Path,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    edit(tiny_space, "iterations: 40", "iterations: 3000")
    edit(tiny_space, "checkpoint_every: 10", "checkpoint_every: 100000")
    results = tmp_path / "results"
    with started(command, "sweep", tiny_space, "--results-dir", results) as sweep:
        wait_for(lambda: training_begun(results), "training to begin")
        sweep.send_signal(number)
        out, err = sweep.communicate(timeout=60)
        assert sweep.returncode == 130, err
        wait_for(lambda: not session_processes(sweep.pid), "Ray's processes to end", 30)
    folder = only_sweep(results)
    assert "stopping: trials save where they are" in out
    assert "_run_on_ray" not in out  # Tune's own words
    assert err.splitlines() == [
        "stopped: 0 of 3 trials are done, those that ran have saved where they were. "
        f"Continue with: kod-bench resume {folder}"
    ]
    saved = [int(p.stem.split("-")[1]) for p in folder.glob("trials/*/checkpoints/*.pt")]
    assert saved, "nothing was saved"
    assert all(0 < iteration < 3000 for iteration in saved)
    assert not [*folder.glob("trials/*/error.json")]
    assert not (folder / "stop").exists()
    status = kod_bench("status", folder).stdout
    assert "interrupted" in status
    assert "failed" not in status


def test_a_stopped_sweep_is_finished_by_resume(
    kod_bench: Command, command: list[str], tiny_space: Path, tmp_path: Path
) -> None:
    edit(tiny_space, "iterations: 40", "iterations: 600")
    edit(tiny_space, "checkpoint_every: 10", "checkpoint_every: 100000")
    results = tmp_path / "results"
    with started(command, "sweep", tiny_space, "--results-dir", results) as sweep:
        wait_for(lambda: row_files_of(results), "a finished trial")
        before = row_files_of(results)
        wait_for(lambda: others_train(results, set(before)), "another to train")
        sweep.send_signal(signal.SIGINT)
        sweep.communicate(timeout=60)
    folder = only_sweep(results)
    before = row_files(folder)
    done = kod_bench("resume", folder)
    assert done.returncode == 0, done.stderr
    after = row_files(folder)
    assert len(after) == TRIALS
    assert {trial: after[trial] for trial in before} == before
    resumed = [
        pq.read_table(folder / "trials" / trial / "row.parquet").to_pylist()[0]["resumed_from"]
        for trial in after
        if trial not in before
    ]
    assert max(resumed) > 0
    for trial in after:
        records = [json.loads(x) for x in (folder / "trials" / trial / "history.jsonl").open()]
        assert [r["iteration"] for r in records] == list(range(5, 601, 5))


def row_files_of(results: Path) -> dict[str, object]:
    return {p.parent.name: p for p in results.glob("tiny/*/trials/*/row.parquet")}


def others_train(results: Path, done: set[str]) -> bool:
    return any(
        path.parent.name not in done and "600}" not in path.read_text() and path.stat().st_size
        for path in results.glob("tiny/*/trials/*/history.jsonl")
    )


def test_two_signals_stop_at_once(
    kod_bench: Command, command: list[str], tiny_space: Path, tmp_path: Path
) -> None:
    # Trials that look at the request only at the end of a long log interval.
    edit(tiny_space, "iterations: 40", "iterations: 100000")
    edit(tiny_space, "log_every: 5, checkpoint_every: 10", "log_every: 50000, checkpoint_every: 7")
    results = tmp_path / "results"
    with started(command, "sweep", tiny_space, "--results-dir", results) as sweep:
        wait_for(lambda: [*results.glob("tiny/*/trials/*/checkpoints/*.pt")], "a checkpoint")
        edited = only_sweep(results)
        sweep.send_signal(signal.SIGINT)
        wait_for(lambda: (edited / "stop").exists() or sweep.poll() is not None, "the request", 10)
        sweep.send_signal(signal.SIGINT)
        _, err = sweep.communicate(timeout=30)
        assert sweep.returncode == 130
        wait_for(lambda: not session_processes(sweep.pid), "Ray's processes to end", 30)
    assert f"interrupted. Continue with: kod-bench resume {edited}" in err
    assert len(err.strip().splitlines()) == 1
    assert [*edited.glob("trials/*/checkpoints/*.pt")]


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
        _, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 130
    assert "Traceback" not in err
    assert not [*(tmp_path / "results").glob("*/*/sweep.yaml")]
