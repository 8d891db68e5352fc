"""A rehearsal on a cluster of two nodes: one worker of a group is killed, every node looked at."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.processes import edit, only_sweep
from tests.conftest import Command

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster


@pytest.mark.endurance  # a minute, of which CI has none left
@pytest.mark.timeout(1200)
def test_a_group_of_workers_is_rehearsed_on_a_cluster(
    kod_bench: Command, cluster: "Cluster", tiny_space: Path, tmp_path: Path
) -> None:
    head, tail = tiny_space.read_text().split("  kuramoto-local:")
    tiny_space.write_text(
        f"{head}  ddpm: {{process: ddpm, steps: 4}}\n{tail[tail.index('profiles:') :]}"
    )
    edit(tiny_space, "  laptop: {}", "  laptop: {resources: {workers_per_trial: 2}}")
    results = tmp_path / "results"
    done = kod_bench(
        *("sweep", tiny_space, "--rehearse", "--json", "--results-dir", results),
        *("--address", cluster.address),
        timeout=1000,
    )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (found,) = [each for each in events if each["event"] == "rehearsal"]
    (shape,) = found["shapes"]
    assert shape["resumed_exactly"] is True
    assert found["would_fail"] == []
    assert found["estimate"]["wall_seconds"] > 0
    (folder,) = (only_sweep(results) / "trials").iterdir()
    used = {path.name for path in folder.glob("used-*.json")}
    assert used >= {"used-worker-0.json", "used-worker-1.json", "used-scoring.json"}
