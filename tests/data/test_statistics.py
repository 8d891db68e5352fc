import math

import numpy as np
import pytest

from kod_bench.data import statistics
from kod_bench.data.statistics import pixel_statistics


def test_against_the_pixels_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_BLOCK", 3)
    images = np.random.default_rng(0).integers(3, 250, (10, 3, 8, 8), dtype=np.uint8)
    images[:, :, :2] = 255
    found = pixel_statistics(images)
    phasors = np.exp(0.9j * np.pi * (images / 127.5 - 1))
    assert (found.lowest, found.highest) == (images.min(), images.max())
    assert found.mean == pytest.approx(images.mean())
    assert found.deviation == pytest.approx(images.std())
    assert found.white_share == (images == 255).mean() == 0.25
    assert found.mean_phase == pytest.approx(np.angle(phasors.mean()))
    assert found.order == pytest.approx(abs(phasors.mean()))


@pytest.mark.parametrize(("pixel", "phase"), [(255, 0.9 * math.pi), (0, -0.9 * math.pi)])
def test_a_page_of_one_colour(pixel: int, phase: float) -> None:
    found = pixel_statistics(np.full((2, 1, 4, 4), pixel, np.uint8))
    assert found.mean_phase == pytest.approx(phase)
    assert found.order == pytest.approx(1)
    assert found.deviation == 0
