"""What a sweep does when its surroundings fail; docs/surviving.md states it, these show it.

Each sweep here is real. None may lose or rewrite the row of a finished trial.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from benchmarks.chaos import session_processes
from kod_bench.sweeps.session import prepare_sweep
from kod_bench.sweeps.trial.run import run_trial, train_and_score
from tests.cli.processes import edit, only_sweep, row_files, started, wait_for, wait_while_running
from tests.conftest import PATIENCE, TINY_SPACE, Command

SMALL_SPACE = re.sub(r"  kuramoto-local:\n(    .*\n)+", "", TINY_SPACE)


@pytest.fixture
def small_space(tiny_space: Path) -> Path:
    """Two trials."""
    tiny_space.write_text(SMALL_SPACE)
    return tiny_space


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """A finished sweep of two trials, with `small.yaml` beside its results."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "small.yaml").write_text(SMALL_SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KOD_BENCH_CACHE", str(cache_dir))
        sweep = prepare_sweep(
            str(folder / "small.yaml"),
            profile="laptop",
            data_dir=None,
            results_dir=folder / "results",
            seeds=None,
            address=None,
            say=lambda _: None,
        )
        for trial in sweep.trials:
            run_trial(sweep, trial, lambda _: None, train_and_score)
    return sweep.folder


@pytest.fixture
def finished(original: Path, tmp_path: Path) -> Path:
    """The finished sweep, moved to a place and a name of this test's own."""
    folder = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(original, folder)
    return folder


def reopen(trial: Path) -> None:
    """Make a trial as if it had been killed before its row was written."""
    (trial / "row.parquet").unlink()


def test_a_torn_row_is_computed_again_as_it_was_planned_and_nothing_else(
    kod_bench: Command, finished: Path, original: Path
) -> None:
    """In a folder that was moved, from a space that was edited since; and `--quiet` is quiet.

    The row is as of a disk that lied: half a file.
    """
    one, two = sorted((finished / "trials").iterdir())
    before = row_files(finished)
    (one / "row.parquet").write_bytes(before[one.name][2][:100])
    report = kod_bench("report", finished)
    assert report.returncode == 0
    warning = f"warning: {one / 'row.parquet'} cannot be read; resume computes it again"
    assert warning in report.stderr
    small_space = original.parents[2] / "small.yaml"
    try:
        edit(small_space, "iterations: 40", "iterations: 50")
        done = kod_bench("resume", finished, "--quiet")
    finally:
        small_space.write_text(SMALL_SPACE)
    assert done.returncode == 0
    assert done.stderr == (
        f"warning: {small_space} has changed since this sweep was planned; the plan in sweep.yaml "
        "is what runs (for the changed one: kod-bench sweep)\n"
    )
    assert row_files(finished)[two.name] == before[two.name]
    (row,) = pq.read_table(one / "row.parquet").to_pylist()
    assert row["iterations"] == 40
    table = (finished / "report" / "comparison.md").read_text()
    assert done.stdout.strip().startswith(table.strip())
    assert len(done.stdout.strip().splitlines()) == len(table.strip().splitlines()) + 3


@pytest.mark.slow
def test_of_a_torn_checkpoint_the_older_one_is_taken_and_a_missing_data_cache_is_made_again(
    kod_bench: Command, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "another-cache"))
    one, two = sorted((finished / "trials").iterdir())
    before = row_files(finished)
    (only,) = (one / "checkpoints").iterdir()
    state = torch.load(only, weights_only=True)
    torch.save({**state, "iteration": 30}, only.with_name("iteration-00000030.pt"))
    content = only.read_bytes()
    only.write_bytes(content[: len(content) // 2])
    reopen(one)
    done = kod_bench("resume", finished, "--quiet")
    assert done.returncode == 0, done.stderr
    assert "cannot be read and is passed over" in (one / "log.txt").read_text()
    assert pq.read_table(one / "row.parquet").to_pylist()[0]["resumed_from"] == 30
    assert row_files(finished)[two.name] == before[two.name]
    assert any((tmp_path / "another-cache").glob("*/meta.json"))


@pytest.mark.slow
def test_of_two_resumes_at_once_one_runs(
    kod_bench: Command, command: list[str], finished: Path
) -> None:
    for trial in (finished / "trials").iterdir():
        reopen(trial)
    with started(command, "resume", finished) as first, started(command, "resume", finished) as two:
        for process in (first, two):
            process.wait(timeout=PATIENCE)
        codes = sorted([first.returncode, two.returncode])
        outputs = [process.communicate() for process in (first, two)]
    assert codes == [0, 2]
    assert sum("another process is running this sweep" in err for _, err in outputs) == 1
    assert len(row_files(finished)) == 2


@pytest.mark.endurance
def test_a_lock_of_a_killed_driver_is_no_obstacle(
    kod_bench: Command, command: list[str], small_space: Path, tmp_path: Path
) -> None:
    """And its Ray ends by itself."""
    edit(small_space, "iterations: 40", "iterations: 2000")
    results = tmp_path / "results"
    with started(command, "sweep", small_space, "--results-dir", results) as driver:
        wait_for(lambda: [*results.glob("tiny/*/trials/*/checkpoints/*.pt")], "a checkpoint")
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        folder = only_sweep(results)
        assert (folder / "lock").exists()
        wait_for(lambda: not session_processes(driver.pid), "Ray's processes to end")
    assert "not running" in kod_bench("status", folder).stdout
    with started(command, "resume", folder) as again:
        wait_while_running(again, lambda: training_again(folder), "training to go on")


def training_again(folder: Path) -> bool:
    return any(
        (path.read_text().count("started on") > 1) for path in folder.glob("trials/*/log.txt")
    )


def can_mount() -> bool:
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(probe, capture_output=True, check=False).returncode
    )


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="a small file system cannot be mounted here")
def test_a_full_disk_costs_no_finished_row(
    finished: Path, tmp_path: Path, kod_bench: Command
) -> None:
    """On a file system with room for a row or two, and none for another checkpoint."""
    one, _ = sorted((finished / "trials").iterdir())
    shutil.rmtree(one / "checkpoints")
    reopen(one)
    before = row_files(finished)
    used = sum(p.stat().st_size for p in finished.rglob("*") if p.is_file()) // 1024
    small = tmp_path / "small"
    small.mkdir()
    out = tmp_path / "out"
    out.mkdir()
    # The results come back out of the namespace by a copy.
    script = (
        f'mount -t tmpfs -o size={used + 400}k none "{small}" && cp -a "{finished}/." "{small}" && '
        f'"{sys.executable}" -m kod_bench.cli.main resume "{small}" --quiet; code=$?; '
        f'cp -a "{small}/." "{out}"; exit $code'
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1, done.stderr
    assert "No space left on device" in done.stderr
    assert f"failed {one.name}: " in done.stderr
    assert all(len(line) < 400 for line in done.stderr.splitlines())
    assert "Traceback" not in done.stderr
    after = {path.parent.name: path.read_bytes() for path in out.glob("trials/*/row.parquet")}
    assert after == {trial: row[2] for trial, row in before.items()}
    assert not [*out.glob("trials/*/.*.tmp")]
    assert not [*out.glob("trials/*/checkpoints/.*.tmp")]
    # With room again, it goes on.
    assert kod_bench("resume", out, "--quiet").returncode == 0
    assert len(row_files(out)) == 2


@pytest.mark.skipif(not can_mount(), reason="a read-only file system cannot be mounted here")
def test_read_only_results_can_be_looked_at_and_not_resumed(
    finished: Path, kod_bench: Command
) -> None:
    one, _ = sorted((finished / "trials").iterdir())
    reopen(one)
    before = row_files(finished)
    base = f'"{sys.executable}" -m kod_bench.cli.main'
    mount = f'mount --bind "{finished}" "{finished}" && mount -o remount,ro,bind "{finished}"'

    def look(arguments: str) -> "subprocess.CompletedProcess[str]":
        script = f'{mount} && {base} {arguments} "{finished}"'
        return subprocess.run(
            ["unshare", "-m", "sh", "-c", script],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, "COLUMNS": "200"},
        )

    resumed = look("resume")
    assert resumed.returncode == 2
    assert resumed.stderr.count("\n") == 1
    assert "results cannot be written here (Read-only file system)" in resumed.stderr
    status = look("status")
    assert status.returncode == 0, status.stderr
    assert "1 done" in status.stdout
    report = look("report")
    assert report.returncode == 0, report.stderr
    assert "warning: not written" in report.stderr
    assert row_files(finished) == before


@pytest.mark.endurance
def test_trials_that_ray_kills_for_memory_fail_and_end_nothing(
    kod_bench: Command, small_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    with monkeypatch.context() as cluster_of_others:  # here Ray is told not to
        cluster_of_others.setenv("RAY_memory_monitor_refresh_ms", "100")
        cluster_of_others.setenv("RAY_memory_usage_threshold", "0.01")
        run = kod_bench("sweep", small_space, "--results-dir", results)
    assert run.returncode == 1, run.stderr
    assert "retry with: kod-bench resume" in run.stderr
    assert "Caught unexpected" not in run.stderr
    reasons = re.findall(r"failed \S+: (.*)", run.stderr)
    assert len(reasons) == 2
    assert any("out of memory" in reason for reason in reasons)
    done = kod_bench("resume", "--results-dir", results)
    assert done.returncode == 0, done.stderr
    assert len(row_files(only_sweep(results))) == 2


@pytest.mark.endurance
def test_a_gcs_that_is_killed_while_ray_starts_does_not_hang_the_driver(
    command: list[str], small_space: Path, tmp_path: Path
) -> None:
    results, victims = tmp_path / "results", []
    with started(command, "sweep", small_space, "--results-dir", results) as driver:

        def gcs() -> bool:
            victims[:] = [
                process
                for process, line in session_processes(driver.pid).items()
                if "/gcs/gcs_server " in line
            ]
            return bool(victims)

        wait_for(gcs, "Ray to start")
        os.kill(victims[0], signal.SIGKILL)
        assert driver.wait(timeout=PATIENCE) == 1
        wait_for(lambda: not session_processes(driver.pid), "Ray's processes to end")
