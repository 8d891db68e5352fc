"""Sweeps whose results are on an object store: a real server, real Ray, processes of their own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.chaos import session_processes
from kod_bench.storage import SCHEMES, ObjectFolder
from tests.cli.processes import computing, frozen, started, wait_for
from tests.conftest import Command
from tests.object_store import SECRET, object_store

TWO_TRIALS = "  ddpm: {process: ddpm, steps: {grid: [4, 8]}}\n"


@pytest.fixture(params=SCHEMES)
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ObjectFolder]:
    with object_store(request.param, tmp_path_factory.mktemp("credentials")) as address:
        yield ObjectFolder(f"{address}/results")


@pytest.fixture
def two_trials(tiny_space: Path) -> Path:
    head, tail = tiny_space.read_text().split("  kuramoto-local:")
    tiny_space.write_text(head + TWO_TRIALS + tail[tail.index("profiles:") :])
    return tiny_space


def only_sweep(results: ObjectFolder) -> ObjectFolder:
    (sweep,) = (results / "tiny").folders()
    return results / "tiny" / sweep


def rows(results: ObjectFolder) -> dict[str, object]:
    return {n: o.modified for n, o in results.list().items() if n.endswith("/row.parquet")}


def credentials() -> list[str]:
    """What a sweep has been given to identify itself with."""
    if key := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return [Path(key).read_text()]
    return [os.environ["AWS_SECRET_ACCESS_KEY"]]


def checkpointed(results: ObjectFolder) -> bool:
    """Whether a trial has something to continue from."""
    return any(n.endswith(".pt") and n[-11:-3] >= "00000020" for n in results.list())


@pytest.mark.endurance
@pytest.mark.timeout(900)
def test_a_killed_sweep_is_finished_from_another_machine(
    kod_bench: Command,
    command: list[str],
    two_trials: Path,
    results: ObjectFolder,
    cache_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two_trials.write_text(two_trials.read_text().replace("iterations: 40", "iterations: 300"))
    with started(command, "sweep", two_trials, "--results-dir", results.uri) as driver:
        wait_for(lambda: checkpointed(results), "a checkpoint on the store")
        with frozen(*computing(driver.pid)):
            assert ": running; " in kod_bench("status", "--results-dir", results.uri).stdout
            driver.kill()
            wait_for(lambda: not session_processes(driver.pid), "Ray's processes to end")
    before = rows(results)
    assert len(before) < 2
    monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "elsewhere"))

    done = kod_bench("resume", "--results-dir", results.uri)
    assert done.returncode == 0, done.stderr
    after = rows(results)
    assert len(after) == 2
    assert {name: after[name] for name in before} == before
    assert "2 of 2 trials" in done.stdout
    sweep = only_sweep(results)
    resumed = []
    for name in after:
        content = tmp_path / "row.parquet"
        content.write_bytes(results.read(name))
        (row,) = pq.read_table(content).to_pylist()
        resumed.append(row["resumed_from"])
        trial = name.split("/")[-2]
        files = {n.removeprefix(f"trials/{trial}/") for n in sweep.list() if trial in n}
        assert {"history.jsonl", "log.txt", "checkpoints/iteration-00000300.pt"} <= files
        assert any(file.startswith("samples-") for file in files)
        assert any(file.startswith("tensorboard/") for file in files)
        history = sweep.read(f"trials/{trial}/history.jsonl").decode().splitlines()
        assert len(history) == 60
    assert max(resumed) >= 20
    assert {"sweep.yaml", "space.yaml", "trials.jsonl", "real.png"} <= sweep.list().keys()
    assert "lease.json" not in sweep.list()

    shutil.rmtree(tmp_path / "elsewhere" / "sweeps")
    status = kod_bench("status", "--results-dir", results.uri)
    assert f"{sweep.uri}: not running; 2 done" in status.stdout
    report = kod_bench("report", sweep.uri, "--markdown")
    assert report.returncode == 0, report.stderr
    assert f"written to {sweep.uri}/report" in report.stderr
    assert report.stdout.strip() == sweep.read("report/comparison.md").decode().strip()
    for name in ("samples.png", "report.html", "figures/kid-against-seconds.pdf"):
        assert sweep.find(f"report/{name}") is not None, name
    again = kod_bench("resume", "--results-dir", results.uri)
    assert again.returncode == 0, again.stderr
    assert rows(results) == after

    # A row that is damaged on the store is computed again, and put there. Parquet has other words
    # for an end that is missing than for bytes that are wrong.
    torn = min(after)
    whole = results.read(torn)
    results.write(torn, whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    shutil.rmtree(tmp_path / "elsewhere" / "sweeps")  # a machine that has no copy
    mended = kod_bench("resume", "--results-dir", results.uri)
    assert mended.returncode == 0, mended.stderr
    content.write_bytes(results.read(torn))
    assert pq.read_table(content).num_rows == 1

    # The secret is nowhere: not on the store, not in the copies, not in what was printed.
    secret = SECRET.encode()
    assert not any(secret in results.read(name) for name in results.list())
    for path in (*cache_dir.rglob("*"), *tmp_path.rglob("*")):
        assert not path.is_file() or secret not in path.read_bytes()
    for run in (done, status, report, again):
        assert SECRET not in run.stdout + run.stderr
    assert any(SECRET in value for value in credentials())
