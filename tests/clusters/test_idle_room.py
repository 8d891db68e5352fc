"""A trial of one worker is helped to draw where there is idle room, and loses no bit by it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.processes import only_sweep, started, wait_while_running
from tests.clusters.test_drawing_together import log, row, shards, unscored
from tests.conftest import Command

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

SPACE = """
name: tiny
dataset: {name: fingerprints, image_size: 16, scale: 0.25, synthetic: {fingers: 6, impressions: 2}}
network: {width: 8, multipliers: [1, 2], blocks: 1}
training: {iterations: 10, batch_size: 8, log_every: 5, checkpoint_every: 10, warmup: 5}
evaluation: {samples: SAMPLES, references: 32, batch_size: 4}
models: {ddpm: {process: ddpm, steps: 400}}
profiles: {laptop: {}}
"""


SHARDS = 160


def helpers(sweep: Path) -> int:
    return len(re.findall(r"helping on .*, process \d+", log(sweep)))


def drawn_ahead(sweep: Path) -> int:
    """Shards beyond the first missing one; the trial itself draws in order, helpers do not."""
    found = {int(re.findall(r"\d+", name)[0]) for name in shards(sweep)}
    first_missing = min(set(range(SHARDS)) - found, default=SHARDS)
    return sum(index > first_missing for index in found)


@pytest.mark.endurance
@pytest.mark.timeout(3600)  # three minutes where nothing else runs; thirteen on a busy machine
def test_help_and_its_loss_change_no_bit_of_the_row(
    kod_bench: Command, command: list[str], cluster: "Cluster", tmp_path: Path
) -> None:
    long, short = tmp_path / "long.yaml", tmp_path / "short.yaml"
    long.write_text(SPACE.replace("SAMPLES", str(4 * SHARDS)))
    short.write_text(SPACE.replace("SAMPLES", "8").replace("steps: 400", "steps: 4"))
    (second,) = cluster.worker_nodes
    cluster.remove_node(second)  # the trial begins on the other one
    where = ("--results-dir", tmp_path / "results", "--address", cluster.address)
    with started(command, "sweep", long, *where) as sweep:

        def until(what: str, condition: Callable[[], bool]) -> None:
            wait_while_running(sweep, condition, what, 400)

        until("shards", lambda: any((tmp_path / "results").rglob("shard-*.npz")))
        folder = only_sweep(tmp_path / "results")
        assert not helpers(folder)  # nowhere to go
        second = cluster.add_node(num_cpus=1)
        until("help", lambda: helpers(folder) == 1)
        elsewhere = ("--results-dir", tmp_path / "others", "--address", cluster.address)
        done = kod_bench("sweep", short, *elsewhere)
        assert done.returncode == 0, done.stderr
        assert "gave its room to those who wait for it" in log(folder)
        until("help again", lambda: helpers(folder) == 2)
        until("shards of the helper", lambda: drawn_ahead(folder) > 2)
        cluster.remove_node(second, allow_graceful=False)
        before_loss = shards(folder)
        assert len(before_loss) < SHARDS
        out, err = sweep.communicate(timeout=1800)
    assert sweep.returncode == 0, out + err
    assert len(shards(folder)) == SHARDS
    assert before_loss.items() <= shards(folder).items()
    drawn = [int(n) for n in re.findall(r"sampled: (\d+) shards", log(folder))]
    assert drawn[-1] < SHARDS  # by the trial itself

    # And by one process alone, or with help on one machine: the same bits.
    again = unscored(folder, "again", SHARDS)
    for path in sorted(again.glob("trials/*/samples/*/shard-*.npz"))[::4]:  # of both processes
        path.unlink()
    done = kod_bench("resume", again, timeout=900)
    assert done.returncode == 0, done.stderr
    assert row(again) | {"training_seconds": 0} == row(folder) | {"training_seconds": 0}
