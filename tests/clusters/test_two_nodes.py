"""A trial of two workers on two nodes of a Ray cluster, one of which goes away and comes back."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from tests.cli.processes import (
    edit,
    only_sweep,
    row_files,
    short_and_long,
    started,
    wait_while_running,
)
from tests.conftest import Command

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster


def saved(results: Path) -> bool:
    return any(results.glob("tiny/*/trials/long-*/checkpoints/*.pt"))


@pytest.mark.endurance  # four minutes, most of them Ray noticing that a node is gone
@pytest.mark.timeout(1200)
def test_a_trial_continues_when_the_node_that_it_lost_is_back(
    kod_bench: Command,
    command: list[str],
    cluster: "Cluster",
    tiny_space: Path,
    tmp_path: Path,
) -> None:
    short_and_long(tiny_space)
    edit(tiny_space, "  short: {process: ddpm, steps: 4}\n", "")
    edit(tiny_space, "iterations: 600", "iterations: 400")
    edit(tiny_space, "  laptop: {}", "  laptop: {resources: {workers_per_trial: 2}}")
    results = tmp_path / "results"
    arguments = ("sweep", tiny_space, "--results-dir", results, "--address", cluster.address)
    with started(command, *arguments) as sweep:
        wait_while_running(sweep, lambda: saved(results), "a checkpoint", 300)
        (node,) = cluster.worker_nodes
        cluster.remove_node(node, allow_graceful=False)
        folder = only_sweep(results)
        assert not row_files(folder)
        assert ": running; " in kod_bench("status", folder).stdout
        cluster.add_node(num_cpus=1)
        _, err = sweep.communicate(timeout=700)
    assert sweep.returncode == 0, err
    (trial,) = row_files(folder)
    (row,) = pq.read_table(folder / "trials" / trial / "row.parquet").to_pylist()
    assert row["workers"] == 2
    assert 10 <= row["resumed_from"] < 400
    records = [json.loads(line) for line in (folder / "trials" / trial / "history.jsonl").open()]
    assert [r["iteration"] for r in records] == list(range(5, 401, 5))
