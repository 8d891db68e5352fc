"""What `auto` stands for is frozen in the plan, and older plans keep what they had."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kod_bench.data import load_dataset
from kod_bench.results import provenance
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.planned import plan_sweep
from kod_bench.sweeps.plan.sweep import SWEEP_FILE, Sweep
from kod_bench.sweeps.space import SearchSpace, load_space
from kod_bench.sweeps.store.create import create_sweep
from kod_bench.sweeps.store.growth import GrowingPlan
from kod_bench.sweeps.store.open import open_sweep

SPACE = """
name: pixels
dataset: {{name: "folder:{folder}", image_size: 8{more}}}
network: {{width: 8, multipliers: [1, 2], blocks: 1}}
training: {{iterations: 4, learning_rate: {{loguniform: [1e-4, 1e-2]}}}}
models: {{ddpm: {{process: ddpm, steps: 4}}}}
evaluation: {{features: efficientnet-lite0, samples: 8, references: 8}}
search: {{strategy: optuna, trials: 3}}
seeds: [0]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    root.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16)).astype(np.uint16)
    for index, each in enumerate(pixels << 4):
        Image.fromarray(each).save(root / f"{index}.tif")
    return root


def space_of(folder: Path, more: str = "") -> SearchSpace:
    path = folder.parent / "space.yaml"
    path.write_text(SPACE.format(folder=folder, more=more))
    return load_space(path, "default")


def create(space: SearchSpace, hashes: dict[object, str], results: Path) -> Sweep:
    return create_sweep(
        space,
        make_trials(space, hashes),
        results_dir=results,
        data_dir=None,
        provenance=provenance.collect(),
        hashes=hashes,
    )


def test_rows_hold_what_auto_stood_for(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    space = space_of(folder, ", value_range: auto")
    planned = plan_sweep(space, data_dir=None, say=said.append)
    hashes = {options: data.content_hash for options, data in planned.datasets.items()}
    sweep = create(planned.space, hashes, tmp_path / "results")
    highest = json.loads(planned.trials[0].config)["dataset"]["value_range"][1]
    assert {trial.dataset["color"] for trial in planned.trials} == {"gray"}
    assert 4000 < highest <= 4080
    line = next(line for line in said if line.startswith("data: "))
    assert "color auto is gray" in line
    assert f"value_range auto is [0, {highest:g}]" in line
    # And a point that the search chooses later gets the same, although the space says auto.
    (trial,) = GrowingPlan(sweep).make(space.variants[0], [5])
    assert trial.dataset == planned.trials[0].dataset
    assert trial.data_hash == planned.trials[0].data_hash


def test_a_search_planned_before_goes_on_in_the_colour_that_it_began_in(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Before `auto`, a folder's colour was rgb where nothing was said.
    space = space_of(folder)
    (variant, *_) = space.variants
    assert variant.dataset.color == "auto"
    rgb = variant.dataset.model_copy(update={"color": "rgb"})
    before = space.model_copy(
        update={"variants": tuple(v.model_copy(update={"dataset": rgb}) for v in space.variants)}
    )
    data_hash = load_dataset(rgb, None).content_hash
    sweep = create(before, {rgb: data_hash}, tmp_path / "results")
    assert "value_range" not in (sweep.folder / SWEEP_FILE).read_text()

    def unneeded(*_: object, **__: object) -> None:
        raise AssertionError("the plan says it")

    monkeypatch.setattr("kod_bench.sweeps.store.growth.load_dataset", unneeded)
    (trial,) = GrowingPlan(open_sweep(sweep.folder)).make(variant, [0])
    assert trial.dataset["color"] == "rgb"
    assert trial.data_hash == data_hash
    assert trial.id in {each.id for each in make_trials(before, data_hash)}
