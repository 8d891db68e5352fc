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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.random.default_rng(0).uniform(-180, 180, (5, 8, 8)), "degrees into radians"),
        (np.full((5, 8, 8), np.nan), "not finite"),
        (np.zeros((5, 8, 8, 3)), "3 channels"),
        (np.zeros((5, 8, 8), np.uint8), "holds uint8"),
    ],
)
def test_what_is_no_angle_is_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(AngleFolder(saved(tmp_path / "a.npy", values)).batches(8))


def test_which_references_hold_angles() -> None:
    assert _holds_angles("xy")
    assert _holds_angles("angles:/somewhere")
    assert not _holds_angles("fingerprints")
    assert not _holds_angles("/a/folder")
