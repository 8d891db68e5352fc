"""Sweeps as their user runs them: real data, real training, real Ray, in processes of their own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks.chaos import session_processes
from kod_bench.results import grid_file, nearest_file
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

TRIALS = 3


def test_a_sweep_from_start_to_report(kod_bench: Command, tiny_space: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    done = kod_bench("sweep", tiny_space, "--results-dir", results)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # Ray is silent
    sweep = only_sweep(results)

    for trial in row_files(sweep):
        folder = sweep / "trials" / trial
        rows = pq.read_table(folder / "row.parquet").to_pylist()
        ways = {(row["prior"], row["sampler"], row["network_evaluations"]) for row in rows}
        assert len(ways) == len(rows) == (1 if trial.startswith("ddpm") else 8)
        for way in ways:
            Image.open(folder / grid_file(*way)).verify()
            Image.open(folder / nearest_file(*way)).verify()
        row = rows[0]
        assert row["dataset"] == "fingerprints-synthetic"
        assert (row["sample_count"], row["reference_count"]) == (16, 32)
        assert row["features"].startswith("efficientnet-lite0@")
        assert row["resumed_from"] == 0
        assert row["network_evaluations"] == row["steps"]
        assert row["real_count"] == 16
        assert (row["images_seen"] == 40 * 8) == (row["process"] == "ddpm")
        assert 0 < row["loss"] < 5
        assert row["kid_real"] < row["kid"]
        assert row["coverage"] < row["coverage_real"]
        assert 0 < row["frequency_distance"] < 0.5
        assert row["memorised_share"] is None  # of 32 held-out images
        assert 0 < row["nearest_distance_real"] < 1
        assert 0 < row["order_parameter_data"] < 1
        assert row["fid_infinity"] is None
        assert "FID of 16 samples" in row["marks"]
        assert json.loads(row["config"])["seed"] == 0
        assert Image.open(folder / grid_file(*min(ways))).size[0] >= 64
        for row in rows:
            assert (row["terminal_order"] is None) == (row["process"] == "ddpm")
            assert (row["prior_order"] is None) == (row["prior"] != "matched")
        losses = [json.loads(line) for line in (folder / "history.jsonl").open()]
        assert [r["iteration"] for r in losses] == list(range(5, 41, 5))
        assert [p.name for p in (folder / "checkpoints").iterdir()] == ["iteration-00000040.pt"]
        assert f"done: {len(rows)} rows" in (folder / "log.txt").read_text()
    assert len(row_files(sweep)) == TRIALS
    assert done.stdout.count("warning: FID of 16 samples, fewer than 2048") == 1
    assert len([*(sweep / "cache").glob("reference-*.npz")]) == 1

    table = (sweep / "report" / "comparison.md").read_text()
    assert table.strip() in done.stdout
    for part in (
        "real versus real",
        "kuramoto-local, matched, probability-flow, T=4",
        "kuramoto-local, forward, ancestral, T=4",
        "forward: sampling started where",
        "ddpm",
        "3 of 3 trials",
        "images drawn",
    ):
        assert part in table
    Image.open(sweep / "report" / "samples.png").verify()
    assert not (sweep / "ray").exists()

    before = row_files(sweep)
    status = kod_bench("status", "--results-dir", results)
    assert "not running; 3 done" in status.stdout
    report = kod_bench("report", sweep, "--markdown")
    assert report.stdout.strip() == table.strip()
    terminal = kod_bench("report", sweep)
    assert "real versus real" in terminal.stdout
    assert max(map(len, terminal.stdout.splitlines()[:12])) <= 80
    again = kod_bench("resume", "--results-dir", results)
    assert again.returncode == 0
    assert row_files(sweep) == before


def test_a_killed_sweep_is_finished_by_resume(
    kod_bench: Command, command: list[str], tiny_space: Path, tmp_path: Path
) -> None:
    short_and_long(tiny_space)
    results = tmp_path / "results"
    with started(command, "sweep", tiny_space, "--results-dir", results) as driver:
        wait_for(lambda: [*results.glob("tiny/*/trials/long-*/checkpoints/*.pt")], "a checkpoint")
        sweep = only_sweep(results)
        (long,) = sweep.glob("trials/long-*")
        with frozen(trial_process(long)):
            wait_for(lambda: row_files(sweep), "the short trial's row")
            driver.kill()
            wait_for(lambda: not session_processes(driver.pid), "Ray's processes to end")
    finished = row_files(sweep)
    assert len(finished) == 1

    done = kod_bench("resume", "--results-dir", results)
    assert done.returncode == 0, done.stderr
    after = row_files(sweep)
    assert after.keys() == {*finished, long.name}
    assert {trial: after[trial] for trial in finished} == finished
    (row,) = pq.read_table(long / "row.parquet").to_pylist()
    assert 10 <= row["resumed_from"] < 600
    assert "2 of 2 trials" in done.stdout
    records = [json.loads(line) for line in (long / "history.jsonl").open()]
    assert [r["iteration"] for r in records] == list(range(5, 601, 5))


@pytest.mark.slow
def test_failed_trials_stop_no_other_and_are_retried(
    kod_bench: Command, command: list[str], tiny_space: Path, tmp_path: Path
) -> None:
    """One whose process is killed, and one whose loss explodes, beside one that is done."""
    short_and_long(tiny_space)
    wild = "{iterations: 200, learning_rate: 1.0e+6, gradient_clip: 1.0e+9}"
    edit(
        tiny_space, "profiles:", f"  wild: {{process: ddpm, steps: 4, training: {wild}}}\nprofiles:"
    )
    results = tmp_path / "results"
    with started(command, "sweep", tiny_space, "--results-dir", results) as driver:
        wait_for(lambda: [*results.glob("tiny/*/trials/long-*/checkpoints/*.pt")], "a checkpoint")
        sweep = only_sweep(results)
        (victim,) = sweep.glob("trials/long-*")
        os.kill(trial_process(victim), signal.SIGKILL)
        out, err = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 1
    *failed, retry = sorted(err.splitlines())
    reason = "its process ended without a word: killed, or out of memory"
    exploded = r"failed wild-\S+: loss (is|exploded to) \S+ at iteration \d+"
    assert failed[0] == f"failed {victim.name}: {reason}"
    assert re.match(exploded, failed[1])
    assert len(failed) == 2
    assert retry.startswith("retry with: kod-bench resume")
    assert len(row_files(sweep)) == 1
    assert "1 of 3 trials" in out
    status = kod_bench("status", sweep).stdout
    assert "2 failed" in status
    assert f"failed {victim.name}: {reason}" in status
    (wild_error,) = sweep.glob("trials/wild-*/error.json")
    error = json.loads(wild_error.read_text())
    assert error["type"] == "DivergedError"
    assert "Traceback" in error["traceback"]

    retried = kod_bench("resume", sweep)
    assert "running 2 of 3 trials" in retried.stdout
    assert retried.returncode == 1  # tried again, and not dropped if it fails again
    assert re.match(exploded, retried.stderr)
    assert len(retried.stderr.splitlines()) == 2
    assert len(row_files(sweep)) == 2
    assert victim.name in row_files(sweep)
    assert not (victim / "error.json").exists()


@pytest.mark.endurance
def test_trials_of_two_workers_and_one_of_them_after_a_kill(
    kod_bench: Command, command: list[str], tiny_space: Path, tmp_path: Path
) -> None:
    edit(tiny_space, "iterations: 40", "iterations: 300")
    edit(tiny_space, "steps: {grid: [4, 8]}}", "steps: 4, training: {iterations: 40}}")
    edit(tiny_space, "priors: [matched, forward], samplers: [ancestral, probability-flow],", "")
    edit(tiny_space, "network_evaluations: [4, 2]", "priors: [matched]")
    edit(tiny_space, "  laptop: {}", "  laptop: {resources: {workers_per_trial: 2}}")
    results = tmp_path / "results"
    with started(command, "sweep", tiny_space, "--results-dir", results) as driver:
        wait_for(lambda: any(results.glob("tiny/*/trials/kura*/checkpoints/*.pt")), "a checkpoint")
        with frozen(*computing(driver.pid)):
            driver.kill()
            wait_for(lambda: not session_processes(driver.pid), "Ray's processes to end")
    done = kod_bench("resume", "--results-dir", results)
    assert done.returncode == 0, done.stderr
    sweep = only_sweep(results)
    rows = {
        row["process"]: row
        for trial in row_files(sweep)
        for row in pq.read_table(sweep / "trials" / trial / "row.parquet").to_pylist()
    }
    assert 10 <= rows["kuramoto"]["resumed_from"] < 300
    assert rows["kuramoto"]["images_seen"] != 300 * 8  # chains keep their images for a while
    assert rows["ddpm"]["images_seen"] == 40 * 8
    for row, iterations in ((rows["kuramoto"], 300), (rows["ddpm"], 40)):
        assert (row["workers"], row["batch_size"]) == (2, 8)
        records = [
            json.loads(x) for x in (sweep / "trials" / row["trial"] / "history.jsonl").open()
        ]
        assert [r["iteration"] for r in records] == list(range(5, iterations + 1, 5))


def test_two_drivers_do_not_run_one_sweep(
    kod_bench: Command, tiny_space: Path, tmp_path: Path
) -> None:
    from kod_bench.results import provenance
    from kod_bench.sweeps.plan.make import make_trials
    from kod_bench.sweeps.space import load_space
    from kod_bench.sweeps.store.create import create_sweep
    from kod_bench.sweeps.store.locks import exclusive_lock

    space = load_space(tiny_space, "laptop")
    sweep = create_sweep(
        space,
        make_trials(space, "hash"),
        results_dir=tmp_path,
        data_dir=None,
        provenance=provenance.collect(),
    )
    with exclusive_lock(sweep.folder / "lock", 0):
        done = kod_bench("resume", sweep.folder)
        assert ": running; 3 waiting" in kod_bench("status", sweep.folder).stdout
    assert done.returncode == 2
    assert "another process is running this sweep" in done.stderr


@pytest.mark.slow
def test_a_sweep_on_a_running_cluster(kod_bench: Command, tiny_space: Path, tmp_path: Path) -> None:
    short_and_long(tiny_space)
    edit(tiny_space, "  long: {process: ddpm, steps: 4, training: {iterations: 600}}\n", "")
    ray = Path(sys.executable).with_name("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = subprocess.Popen(
        [ray, "start", "--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false",
         "--disable-usage-stats", "--block"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: not socket.socket().connect_ex(("127.0.0.1", port)), "Ray to start")
        done = kod_bench(
            "sweep", tiny_space, "--results-dir", tmp_path, "--address", f"127.0.0.1:{port}"
        )
    finally:
        head.terminate()
        head.wait(timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert len(row_files(only_sweep(tmp_path))) == 1
    gone = kod_bench("resume", only_sweep(tmp_path), "--address", f"127.0.0.1:{port}")
    assert gone.returncode == 0  # nothing is left to do, so nothing is connected to
