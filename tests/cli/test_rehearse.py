"""Rehearsals as their user runs them: real kills, real Ray, shipped studies at their real sizes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kod_bench.storage import ObjectFolder
from kod_bench.sweeps.space import find_space, known_spaces, read_profiles
from tests.cli.processes import only_sweep
from tests.conftest import Command
from tests.object_store import object_store


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectFolder]:
    with object_store("s3", tmp_path_factory.mktemp("credentials")) as address:
        yield ObjectFolder(f"{address}/results")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_shape_is_killed_and_resumed_on_an_object_store(
    kod_bench: Command, tiny_space: Path, store: ObjectFolder, tmp_path: Path
) -> None:
    """By `--json`, with a model that needs images that are not there in its own words."""
    done = kod_bench("sweep", tiny_space, "--rehearse", "--json", "--results-dir", store.uri)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (found,) = [each for each in events if each["event"] == "rehearsal"]
    assert found["would_fail"] == []
    assert [each["trials"] for each in found["shapes"]] == [1, 1, 1]
    for each in found["shapes"]:
        assert each["resumed_exactly"] is True
        assert 10**8 < each["memory"] < 10**10
        assert each["checkpoint_bytes"] > 10**4
        assert each["iteration_seconds"] > 0
    assert found["estimate"]["wall_seconds"] > 1
    killed = [each["reason"] for each in events if each["event"] == "failed"]
    assert len(killed) == 3
    assert all("killed by the rehearsal" in each for each in killed)
    (name,) = (store / "tiny").folders()
    there = store / "tiny" / name
    rows = [each for each in there.list() if each.endswith("row.parquet")]
    assert len(rows) == 3
    there.download(rows, tmp_path)
    for each in rows:
        for row in pq.read_table(tmp_path / each).to_pylist():
            assert row["rehearsal"] is True
            assert row["resumed_from"] == 3
    assert not kod_bench("resume", there.uri).returncode
    assert "no sweep" in kod_bench("status", "--results-dir", store.uri).stderr


def cluster_spaces() -> list[str]:
    return [name for name in known_spaces() if "cluster" in read_profiles(find_space(name))[1]]


@pytest.mark.endurance
@pytest.mark.parametrize("name", cluster_spaces())
@pytest.mark.timeout(3600)
def test_shipped_studies_for_clusters_run_at_their_sizes(
    kod_bench: Command, name: str, tmp_path: Path
) -> None:
    """With the CPU in place of the GPU: full network and T, few iterations, images, samples."""
    data: tuple[object, ...] = ()
    if name == "cifar10":
        data = ("--data-dir", photographs(tmp_path / "photographs"))
    results = tmp_path / "results"
    done = kod_bench(
        *("sweep", name, "--profile", "cluster", "--rehearse", "--results-dir", results, *data),
        timeout=3500,
    )
    said = " ".join(done.stdout.split())
    shapes, finished, resumed = map(
        int, re.findall(r"(\d+) shapes of \d+ trials: (\d+) done, (\d+) killed", said)[0]
    )
    assert shapes == finished == resumed, done.stdout
    assert "the CPU stands in for it" in said
    failing = said.partition("would have failed: ")[2].partition(" not rehearsed:")[0]
    # Where this runs, the weights of Inception may not be there.
    assert failing == "- nothing that was tried" or failing.count("- ") == 1
    assert done.returncode == (0 if "nothing that was tried" in failing else 1)
    for path in (only_sweep(results) / "trials").glob("*/row.parquet"):
        config = json.loads(pq.read_table(path).to_pylist()[0]["config"])
        assert config["training"]["iterations"] == 3
        assert config["training"]["batch_size"] == 2


def photographs(folder: Path) -> Path:
    """A few images of the size of CIFAR-10's, divided as those are."""
    generator = np.random.default_rng(0)
    for side, count in (("train", 12), ("test", 6)):
        for number in range(count):
            path = folder / side / "cat" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    return folder
