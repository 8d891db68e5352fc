"""A trial that does not fit into memory, in a process that really has no more."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kod_bench.sweeps.plan.sweep import Sweep
from tests.conftest import PATIENCE
from tests.planned import plan_sweep

#: Runs a trial's `train_and_score` with so many MiB of address space beyond what the process has
#: when the first training step begins: a real limit of the kernel, hit by PyTorch's own allocator.
#: Prints how many the training came to have.
PROGRAM = """
import resource, sys
from pathlib import Path
import torch
from kod_bench.errors import UsageError
from kod_bench.sweeps.trial import run as trials
from kod_bench.sweeps.store.open import open_sweep

torch.set_num_threads(1)
sweep = open_sweep(Path(sys.argv[1]))
limit = int(sys.argv[2]) * 2**20

def mebibytes(name):
    status = Path("/proc/self/status").read_text()
    return int(status.split(name + ":")[1].split()[0]) / 1024

def report(status):
    # Scoring loads libraries that map more than this; training is what is measured.
    if status.phase == "sampling":
        print(mebibytes("VmPeak") - before)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

load = trials.Subject.load

def load_then_limit(sweep, trial, device):
    subject = load(sweep, trial, device)
    network = subject.network()  # threads and kernels are set up by a first small step
    state = torch.zeros(1, *subject.process.shape)
    network(state, torch.ones(1, dtype=torch.int64)).sum().backward()
    torch.optim.AdamW(network.parameters()).step()
    global before
    before = mebibytes("VmSize")
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (int(before * 2**20) + limit, hard))
    return subject

trials.Subject.load = load_then_limit
trials.run_trial(sweep, sweep.trials[0], report, trials.train_and_score)
"""

SPACE = """
name: memory
dataset: {name: fingerprints, image_size: 32, scale: 0.25,
          synthetic: {fingers: 6, impressions: 2}}
network: {width: 16, multipliers: [1], blocks: 1}
training: {iterations: 4, batch_size: 128, log_every: 1, checkpoint_every: 2, warmup: 1,
           micro_batch_size: MICRO}
evaluation: {samples: 16, references: 16, batch_size: 16}
models: {ddpm: {process: ddpm, steps: 4}}
profiles: {laptop: {}}
"""


def planned(folder: Path, micro_batch_size: int | None) -> Sweep:
    return plan_sweep(SPACE.replace("MICRO", json.dumps(micro_batch_size)), folder)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return planned(tmp_path / "whole", None)


def needed(sweep: Sweep) -> float:
    """MiB that training came to have: how many convolutions take depends on the processor."""
    done = run_with(sweep, 20_000)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def run_with(sweep: Sweep, mebibytes: int) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(sweep.folder), str(mebibytes)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_half_the_micro_batch_is_tried_once_and_recorded(tmp_path: Path) -> None:
    whole, half = (needed(planned(tmp_path / str(size), size)) for size in (128, 64))
    assert whole > 1.2 * half
    # What the first try leaves in pieces is not the same each time, so that no one limit between
    # the two is sure to stop it and leave room for the second.
    for number, share in enumerate((0.45, 0.55, 0.35, 0.65)):
        sweep = planned(tmp_path / f"limited-{number}", None)
        folder = sweep.trial_folder(sweep.trials[0])
        done = run_with(sweep, round(half + share * (whole - half)))
        if done.returncode == 0 and (folder / "memory.json").exists():
            break
    assert done.returncode == 0, done.stderr
    (row,) = pq.read_table(folder / "row.parquet").to_pylist()
    assert (row["batch_size"], row["micro_batch_size"]) == (128, 64)
    assert (
        "out of memory with micro-batches of 128: the next try takes 64"
        in (folder / "log.txt").read_text()
    )
    records = [json.loads(line) for line in (folder / "history.jsonl").open()]
    assert [record["iteration"] for record in records] == [1, 2, 3, 4]


def test_a_second_time_is_a_failure_of_one_line_and_resume_goes_on_from_there(
    sweep: Sweep,
) -> None:
    folder = sweep.trial_folder(sweep.trials[0])
    assert run_with(sweep, 20).returncode == 1
    error = json.loads((folder / "error.json").read_text())
    assert error["error"].startswith("out of memory with micro-batches of 64; lower ")
    assert len(error["error"].splitlines()) == 1
    assert json.loads((folder / "memory.json").read_text()) == {"micro_batch_size": 32}
    assert not (folder / "row.parquet").exists()
    assert run_with(sweep, 2000).returncode == 0
    (row,) = pq.read_table(folder / "row.parquet").to_pylist()
    assert row["micro_batch_size"] == 32
