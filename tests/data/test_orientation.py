from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kod_bench.data import DatasetOptions, load_dataset
from kod_bench.data.angle_fields import as_stored, cut, middle, shrink
from kod_bench.data.orientation import doubled_orientation
from kod_bench.data.synthetic_fingerprints import (
    FINGER_SHAPE,
    grow_ridges,
    orientation_field,
)
from kod_bench.evaluation.angles import vortices

SINGULAR = {"left loop": 1, "right loop": 1, "whorl": 2, "tented arch": 1, "arch": 0}


@pytest.mark.parametrize("kind", SINGULAR)
def test_cores_and_deltas_are_windings_of_the_doubled_angle(kind: str) -> None:
    field = orientation_field(kind, FINGER_SHAPE, np.random.default_rng(4))  # type: ignore[arg-type]
    winding = vortices(torch.from_numpy(as_stored(2 * field)))
    assert int((winding == 1).sum()) == SINGULAR[kind]
    assert int((winding == -1).sum()) == SINGULAR[kind]
    smaller = vortices(torch.from_numpy(shrink(2 * field, 2)))
    assert int(smaller.abs().sum()) == 2 * SINGULAR[kind]


@pytest.mark.parametrize("kind", SINGULAR)
def test_the_structure_tensor_finds_the_known_field_and_all_that_is_singular(kind: str) -> None:
    generator = np.random.default_rng(4)
    known = orientation_field(kind, FINGER_SHAPE, generator)  # type: ignore[arg-type]
    ridges = grow_ridges(known, 9.0, generator)
    gray = np.clip(127.5 * (1 - ridges), 0, 255).astype(np.uint8)
    found, coherence = doubled_orientation(gray, 6.0)
    apart = np.abs(np.angle(np.exp(1j * (found - 2 * known))))
    sure = coherence > 0.6
    assert sure.mean() > 0.6
    assert np.median(apart[sure]) < 0.15  # radians of the doubled angle
    assert (coherence <= 1 + 1e-9).all()
    # As many cores and deltas, each within a ridge of where it is known to be.
    for winding in (1, -1):
        ours, theirs = (
            np.argwhere(vortices(torch.from_numpy(as_stored(field))).numpy() == winding)[:, -2:]
            for field in (found, 2 * known)
        )
        assert len(ours) == len(theirs) == SINGULAR[kind]
        for place in theirs:
            assert np.hypot(*(ours - place).T).min() < 9.0


@pytest.mark.parametrize(("degrees", "doubled"), [(0, 0.0), (30, np.pi / 3), (90, np.pi)])
def test_ridges_have_the_orientation_that_one_sees(degrees: float, doubled: float) -> None:
    rows, columns = np.indices((48, 48))
    x, y = columns, -rows
    across = -np.sin(np.radians(degrees)) * x + np.cos(np.radians(degrees)) * y
    gray = (127.5 + 120 * np.cos(2 * np.pi * across / 8)).astype(np.uint8)
    found, coherence = doubled_orientation(gray, 3.0)
    inside = (slice(12, 36), slice(12, 36))
    apart = np.angle(np.exp(1j * (found[inside] - doubled)))
    assert np.abs(apart).max() < 0.1
    assert coherence[inside].min() > 0.9


def test_shrinking_averages_directions_and_not_numbers() -> None:
    field = np.full((4, 4), np.pi - 0.1)
    field[:, ::2] = -np.pi + 0.1
    assert np.abs(np.angle(np.exp(1j * (shrink(field, 2) - np.pi)))).max() < 1e-12
    assert middle(np.zeros((9, 7)) + 0.5, 3).shape == (3, 3)
    assert cut(np.zeros((8, 8)), 4).shape == (9, 4, 4)


def test_known_fields_of_synthetic_prints(tmp_path: Path) -> None:
    options = DatasetOptions.model_validate(
        {"name": "orientation", "image_size": 32, "synthetic": {"fingers": 3}}
    )
    dataset = load_dataset(options, None, tmp_path)
    assert dataset.name == "orientation-synthetic"
    assert dataset.warnings == ()
    assert dataset.train.dtype == torch.float32
    assert len(dataset.train) > 50
    assert 0 < int((vortices(dataset.train) != 0).sum()) < 100


def test_prints_of_a_folder_by_their_coherence(tmp_path: Path) -> None:
    folder = tmp_path / "prints"
    folder.mkdir()
    rows, columns = np.indices((96, 96))
    noise = np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)
    for place in range(3):
        ridges = (127.5 + 120 * np.cos(2 * np.pi * (rows + place * columns) / 9)).astype(np.uint8)
        Image.fromarray(ridges).save(folder / f"10{place}_1.png")
    Image.fromarray(noise).save(folder / "109_1.png")
    options = DatasetOptions.model_validate({"name": "orientation", "image_size": 16})
    dataset = load_dataset(options, folder, tmp_path / "cache")
    assert dataset.details.skipped == {"no patch of enough coherence": 1}
    assert dataset.values == "angles"


@pytest.mark.parametrize("scale", [0.7, [0.5, 0.3]])
def test_scales_that_are_no_whole_factor_are_refused(scale: object) -> None:
    with pytest.raises(ValueError, match="whole factors"):
        DatasetOptions.model_validate({"name": "orientation", "image_size": 16, "scale": scale})
