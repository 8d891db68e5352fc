"""A trial of two workers on two nodes draws on both; a process is killed, and a node is lost."""

import os
import re
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from tests.cli.processes import only_sweep, started, wait_for, wait_while_running
from tests.conftest import PATIENCE, Command

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

SPACE = """
name: tiny
dataset: {name: fingerprints, image_size: 16, scale: 0.25, synthetic: {fingers: 6, impressions: 2}}
network: {width: 8, multipliers: [1, 2], blocks: 1}
training: {iterations: 10, batch_size: 8, log_every: 5, checkpoint_every: 10, warmup: 5}
evaluation: {samples: 60, references: 32, batch_size: 4}
resources: {workers_per_trial: 2}
models: {ddpm: {process: ddpm, steps: 100}}
profiles: {laptop: {}}
"""
SHARDS = 15

_OF_A_RUN = {"sweep", "sampling_seconds", "evaluation_seconds", "finished_at", "hostname"}


def shards(sweep: Path) -> dict[str, tuple[int, int]]:
    """Of each shard what changes if it is written again."""
    found = {}
    for path in sweep.glob("trials/*/samples/*/shard-*.npz"):
        status = path.stat()
        found[path.name] = (status.st_ino, status.st_mtime_ns)
    return found


def row(sweep: Path) -> dict[str, Any]:
    (path,) = sweep.glob("trials/*/row.parquet")
    (found,) = pq.read_table(path).to_pylist()
    return {name: value for name, value in found.items() if name not in _OF_A_RUN}


def log(sweep: Path) -> str:
    (path,) = sweep.glob("trials/*/log.txt")
    return path.read_text()


def drawers(sweep: Path) -> list[int]:
    return [int(number) for number in re.findall(r"drawing on .*, process (\d+)", log(sweep))]


@pytest.fixture
def undisturbed(kod_bench: Command, cluster: "Cluster", tmp_path: Path) -> Path:
    """The sweep's folder when nothing was killed; both workers have drawn their share."""
    space = tmp_path / "tiny.yaml"
    space.write_text(SPACE)
    arguments = ("--results-dir", tmp_path / "results", "--address", cluster.address)
    done = kod_bench("sweep", space, *arguments)
    assert done.returncode == 0, done.stderr
    folder = only_sweep(tmp_path / "results")
    assert len(shards(folder)) == SHARDS
    assert len(set(drawers(folder))) == 2
    share = [int(n) for n in re.findall(r"sampled: (\d+) shards", log(folder))]
    assert len(share) == 2
    assert sum(share) == SHARDS
    assert min(share) >= 4  # a share is 7 or 8, unless one of them was much slower
    return folder


def unscored(undisturbed: Path, name: str, kept: int) -> Path:
    """A copy with the same checkpoint, no row, and so many shards."""
    copied = undisturbed.parents[2] / name / "tiny" / undisturbed.name
    shutil.copytree(undisturbed, copied)
    (trial,) = copied.glob("trials/*")
    (trial / "row.parquet").unlink()
    (trial / "log.txt").unlink()
    if not kept:
        shutil.rmtree(trial / "samples")
    for path in sorted(trial.glob("samples/*/shard-*.npz"))[kept:]:
        path.unlink()
    return copied


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a minute or two where nothing else runs
def test_a_lost_node_changes_no_bit_of_the_row(
    command: list[str], cluster: "Cluster", undisturbed: Path
) -> None:
    without = unscored(undisturbed, "without", 0)
    with started(command, "resume", without, "--address", cluster.address) as resume:
        wait_while_running(resume, lambda: len(shards(without)) >= 6, "half", 300)
        before = shards(without)
        (node,) = cluster.worker_nodes
        cluster.remove_node(node, allow_graceful=False)
        _, err = resume.communicate(timeout=600)
    assert resume.returncode == 0, err
    assert row(without) == row(undisturbed)
    assert before.items() <= shards(without).items()  # none of them was drawn again
    assert len(shards(without)) == SHARDS


@pytest.mark.endurance
@pytest.mark.timeout(1800)
def test_a_killed_process_changes_no_bit_of_the_row(
    kod_bench: Command, command: list[str], cluster: "Cluster", undisturbed: Path
) -> None:
    killed = unscored(undisturbed, "killed", 0)
    with started(command, "resume", killed, "--address", cluster.address) as resume:
        wait_while_running(resume, lambda: len(shards(killed)) >= 3, "some shards", 300)
        before = shards(killed)
        assert len(before) < SHARDS
        os.kill(drawers(killed)[-1], signal.SIGKILL)
        _, err = resume.communicate(timeout=PATIENCE)
    assert resume.returncode == 0, err
    assert row(killed) == row(undisturbed)
    assert before.items() <= shards(killed).items()
    assert len(shards(killed)) == SHARDS

    # And the trial's own process, with the driver, while others draw.
    again = unscored(killed, "again", 4)
    before = shards(again)
    with started(command, "resume", again, "--address", cluster.address) as resume:
        wait_for(lambda: len(shards(again)) > 5 or resume.poll() is not None, "more shards")
        resume.kill()
    done = kod_bench("resume", again, "--address", cluster.address)
    assert done.returncode == 0, done.stderr
    assert row(again) == row(undisturbed)
    assert before.items() <= shards(again).items()
