import math

import numpy as np
import pytest
import torch

from kod_bench.diffusion import to_stored, to_unit


def test_angles_stay_in_their_interval_and_come_back() -> None:
    pi = np.float32(math.pi)
    edges = np.array([-pi, np.nextafter(pi, np.float32(0)), 0.0, 1.25, -2.5], np.float32)
    unit = to_unit(torch.from_numpy(edges))
    assert unit.dtype == torch.float32
    assert float(unit.min()) == -1.0
    assert float(unit.max()) < 1.0
    np.testing.assert_allclose(to_stored(unit, "angles").numpy(), edges, atol=1e-6)


def test_angles_beyond_are_wrapped() -> None:
    found = to_stored(torch.tensor([1.0, 1.5, -1.25]), "angles")
    np.testing.assert_allclose(found.numpy(), np.array([-1.0, -0.5, 0.75]) * math.pi, atol=1e-6)


def test_intensities_are_bytes() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_stored(to_unit(levels), "intensities"), levels)
    assert to_stored(torch.tensor([-3.0, 3.0]), "intensities").tolist() == [0, 255]


@pytest.mark.parametrize("values", ["angles", "intensities"])
def test_what_is_not_finite_is_refused(values: str) -> None:
    with pytest.raises(FloatingPointError, match="diverged"):
        to_stored(torch.tensor([math.nan]), values)  # type: ignore[arg-type]


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        to_unit(torch.zeros(1, dtype=torch.float64))
