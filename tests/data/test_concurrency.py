"""Preparation by real processes: killed, repeated, and side by side."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kod_bench.data import DatasetOptions, cache, load_dataset
from tests.conftest import PATIENCE

# Prints a line for each unit, and waits after the first ones, so that there is time to kill it.
PREPARE = """
import sys, time
from pathlib import Path
from kod_bench.data import DatasetOptions, open_dataset

def slowly(done, units):
    print(done, units, flush=True)
    time.sleep(float(sys.argv[3]) if 0 < done < 10 else 0)

options = DatasetOptions(name="fingerprints", image_size=16)
dataset = open_dataset(options, Path(sys.argv[1]), Path(sys.argv[2]), on_unit=slowly)
print(dataset.content_hash, dataset.cached)
"""
OPTIONS = DatasetOptions(name="fingerprints", image_size=16)
Prints = Callable[..., Path]


def start(root: Path, cache_dir: Path, pause: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PREPARE, str(root), str(cache_dir), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def entries(cache_dir: Path) -> list[Path]:
    return [path for path in cache_dir.iterdir() if path.name != ".hashes"]


def children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for each in threads for child in (each / "children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_kill_and_repeat(prints: Prints, tmp_path: Path) -> None:
    root = prints(*(f"{finger}_{i}.png" for finger in range(12) for i in range(5)))
    cache_dir = tmp_path / "cache"
    for _ in range(2):
        process = start(root, cache_dir, pause=60)
        assert process.stdout is not None
        while not process.stdout.readline().startswith("1 "):
            assert process.poll() is None
        orphans = children(process.pid)
        assert orphans, "60 files are read by processes of their own"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        (left,) = entries(cache_dir)  # two killed preparations leave no more than one
        assert cache.read_entry(left) is None
        deadline = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in orphans):
            assert time.monotonic() < deadline, "a worker process outlived its parent"
            time.sleep(0.05)
    repeated = load_dataset(OPTIONS, root, cache_dir)
    assert repeated.content_hash == load_dataset(OPTIONS, root, tmp_path / "fresh").content_hash
    assert len(entries(cache_dir)) == 1


def test_two_at_once_prepare_once(prints: Prints, tmp_path: Path) -> None:
    root, cache_dir = prints(), tmp_path / "cache"
    processes = [start(root, cache_dir, pause=0.2) for _ in range(2)]
    outputs = [process.communicate(timeout=PATIENCE)[0].split("\n") for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    hashes = {output[-2].split()[0] for output in outputs}
    assert len(hashes) == 1
    assert sum("6 6" in output for output in outputs) == 1, "the second one waited for the first"
    (entry,) = entries(cache_dir)
    found = cache.read_entry(entry)
    assert found is not None
    assert {found[1]} == hashes
