"""On a cluster, a trial whose process is lost goes on by itself, as when a spot machine is gone."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from tests.cli.processes import edit, short_and_long, started, trial_process, wait_while_running
from tests.conftest import PATIENCE, Command

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_trial_begins_again_at_its_checkpoint(
    kod_bench: Command,
    command: list[str],
    cluster: "Cluster",
    tiny_space: Path,
    tmp_path: Path,
) -> None:
    short_and_long(tiny_space)
    edit(tiny_space, "iterations: 600", "iterations: 400")
    results = tmp_path / "results"
    arguments = ("sweep", tiny_space, "--results-dir", results, "--address", cluster.address)
    with started(command, *arguments) as sweep:
        checkpoints = "tiny/*/trials/long-*/checkpoints/*.pt"
        wait_while_running(sweep, lambda: any(results.glob(checkpoints)), "a checkpoint", 200)
        (trial,) = results.glob("tiny/*/trials/long-*")
        os.kill(trial_process(trial), signal.SIGKILL)
        out, err = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 0, err
    assert "1 trial(s) lost their process" in out
    (row,) = pq.read_table(trial / "row.parquet").to_pylist()
    assert row["resumed_from"] >= 10
    assert not (trial / "error.json").exists()
    assert "2 done" in kod_bench("status", trial.parent.parent).stdout
