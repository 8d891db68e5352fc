from pathlib import Path

import numpy as np
import pytest
import torch

from kod_bench.errors import UsageError
from kod_bench.evaluation.angle_folder import AngleFolder
from kod_bench.evaluation.folder_scores import _holds_angles


def saved(path: Path, values: np.ndarray) -> Path:
    np.save(path, values)
    return path


def test_arrays_of_radians_are_read_as_fields(tmp_path: Path) -> None:
    angles = np.random.default_rng(0).uniform(-3, 3, (5, 8, 8)).astype(np.float32)
    found = AngleFolder(saved(tmp_path / "a.npy", angles))
    first, second = list(found.batches(3))
    assert first.dtype == torch.float32
    assert (first.shape, second.shape) == ((3, 1, 8, 8), (2, 1, 8, 8))
    np.testing.assert_allclose(torch.cat([first, second])[:, 0].numpy(), angles, atol=1e-6)


@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize("side", [8, 3])
@pytest.mark.parametrize("ending", [(), (1,)])
def test_any_number_of_fields_is_one_of_fields(
    tmp_path: Path, count: int, side: int, ending: tuple[int, ...]
) -> None:
    """Three of them are no colours."""
    angles = np.random.default_rng(0).uniform(-3, 3, (count, side, side, *ending))
    np.save(tmp_path / "other.npy", angles[0] / 2)
    found = AngleFolder(saved(tmp_path / "a.npy", angles).parent)
    assert len(found) == count + 1
    fields = torch.cat(list(found.batches(4)))
    np.testing.assert_allclose(fields[:count, 0].numpy(), angles.reshape(count, side, side), 1e-5)


#: One angle, a turn on or back at every second site.
TURNED = -3 + 2 * np.pi * (np.arange(5 * 64).reshape(5, 8, 8) % 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.random.default_rng(0).uniform(-180, 180, (5, 8, 8)), "degrees into radians"),
        (np.random.default_rng(0).uniform(240, 250, (5, 8, 8)), "field 1 holds values from 24"),
        (np.random.default_rng(0).normal(0, 1e4, (5, 8, 8)), "no angles, whatever their unit"),
        (np.full((5, 8, 8), np.nan), "field 1 is nan at row 0, column 0"),
        (np.zeros((5, 8, 8, 3)), "3 channels"),
        (np.zeros((8, 8, 3)), r"shape \(8, 8, 3\), as images in colour have; needs \(H, W\), "),
        (np.zeros((2, 3, 8, 8)), r"shape \(2, 3, 8, 8\); needs \(H, W\), \(N, H, W\) or"),
        (np.zeros((5, 8, 8), np.uint8), "holds uint8"),
        (np.zeros((5, 8, 8)), "all 5 fields are 0 everywhere: nothing was drawn"),
        (TURNED.astype(np.float32), "all 5 fields are -3 everywhere"),
    ],
)
def test_what_is_no_angle_is_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        list(AngleFolder(saved(tmp_path / "a.npy", values)).batches(8))
    assert "\n" not in str(caught.value)
    assert "--against" not in str(caught.value)


def test_constant_samples_are_bad_ones_and_are_scored(tmp_path: Path) -> None:
    """Of a model that has collapsed, or of spins that are all frozen."""
    one = np.random.default_rng(0).uniform(-3, 3, (8, 8))
    for values in (np.stack([one, np.zeros((8, 8))]), np.ones((2, 8, 8)) * [[[1]], [[2]]]):
        (found,) = AngleFolder(saved(tmp_path / "a.npy", values)).batches(8)
        assert len(found) == 2


def test_what_looks_like_intensities_is_said(tmp_path: Path) -> None:
    for span, said in ((1, True), (3, False)):
        values = np.random.default_rng(0).uniform(0, span, (5, 8, 8))
        found = AngleFolder(saved(tmp_path / "a.npy", values))
        list(found.batches(2))
        assert any("look like intensities" in note for note in found.notes) == said


def test_which_references_hold_angles() -> None:
    assert _holds_angles("xy")
    assert _holds_angles("angles:/somewhere")
    assert not _holds_angles("fingerprints")
    assert not _holds_angles("/a/folder")
