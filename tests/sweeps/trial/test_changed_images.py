"""Images that are not those of the plan."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kod_bench.data.cache import content_hash
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.trial.subject import DataChangedError, Subject
from tests.planned import plan_sweep

SPACE = """
name: changed
dataset: DATASET
network: {width: 8, multipliers: [1], blocks: 1}
training: {iterations: 2, batch_size: 4, log_every: 1, checkpoint_every: 2, warmup: 1}
evaluation: {samples: 8, references: 8, batch_size: 8}
models: {ddpm: {process: ddpm, steps: 4}}
profiles: {laptop: {}}
"""


def planned(folder: Path, dataset: str, data_dir: Path | None = None) -> Sweep:
    """A sweep of the images as they are now."""
    return plan_sweep(SPACE.replace("DATASET", dataset), folder, data_dir=data_dir)


def load(sweep: Sweep) -> Subject:
    return Subject.load(sweep, sweep.trials[0], torch.device("cpu"))


def redraw(entry: Path) -> None:
    """As another processor might have drawn it: one number differs in its last digit."""
    train, test = np.load(entry / "train.npy"), np.load(entry / "test.npy")
    train[0, 0, 0, 0] = np.nextafter(train[0, 0, 0, 0], np.float32(0))
    np.save(entry / "train.npy", train)
    meta = json.loads((entry / "meta.json").read_text())
    (entry / "meta.json").write_text(
        json.dumps(meta | {"content_hash": content_hash(train, test)}), encoding="utf-8"
    )


def test_what_another_processor_drew_is_taken_from_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    dataset = "{name: xy, image_size: 8, xy: {count: 50}}"
    monkeypatch.setenv("KOD_BENCH_CACHE", str(there))
    planned(tmp_path, dataset)
    (entry,) = there.glob("xy-*")
    redraw(entry)
    sweep = planned(tmp_path, dataset)
    assert load(sweep).trial == sweep.trials[0]

    monkeypatch.setenv("KOD_BENCH_CACHE", str(here))
    with pytest.raises(DataChangedError) as refused:
        load(sweep)
    assert str(refused.value).startswith("the built-in images are others here than")
    assert "copy the cache of prepared images (KOD_BENCH_CACHE)" in str(refused.value)
    assert sweep.trials[0].data_hash not in str(refused.value)

    shutil.rmtree(here)
    shutil.copytree(there, here)
    assert load(sweep).dataset.content_hash == sweep.trials[0].data_hash


@pytest.mark.parametrize("named", ["by the data set", "beside it"])
def test_images_of_a_folder_are_put_back(tmp_path: Path, named: str) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in range(12):
        Image.fromarray(generator.integers(0, 256, (8, 8), np.uint8)).save(folder / f"{name}.png")
    if named == "beside it":
        sweep = planned(tmp_path, "{name: textures, image_size: 8}", folder)
    else:
        sweep = planned(tmp_path, f"{{name: 'folder:{folder}', image_size: 8}}")
    load(sweep)
    before = (folder / "3.png").read_bytes()
    Image.fromarray(generator.integers(0, 256, (8, 8), np.uint8)).save(folder / "3.png")
    with pytest.raises(DataChangedError, match=r"^the images in .*images, .*put the images back$"):
        load(sweep)
    (folder / "3.png").write_bytes(before)
    load(sweep)
