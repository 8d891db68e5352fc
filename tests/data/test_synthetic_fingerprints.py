from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from kod_bench.data import synthetic_fingerprints
from kod_bench.data.synthetic_fingerprints import (
    CLASS_SHARES,
    FINGER_SHAPE,
    IMPRESSION_SHAPE,
    FingerClass,
    draw_finger,
    draw_prints,
    grow_ridges,
    orientation_field,
    smooth_noise,
)


@pytest.fixture(scope="module")
def some_prints() -> list[np.ndarray]:
    return [image for finger in range(3) for _, image in draw_prints(0, finger, 2)]


def centre(image: np.ndarray, size: int = 128) -> np.ndarray:
    top, left = ((side - size) // 2 for side in image.shape)
    return image[top : top + size, left : left + size].astype(float)


def radial_peak(square: np.ndarray) -> float:
    """Period, in pixels, at which the radially averaged power spectrum per ring is highest."""
    size = len(square)
    window = np.hanning(size)[:, None] * np.hanning(size)
    power = np.abs(np.fft.fft2((square - square.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)) * size
    rings = np.rint(frequency).astype(int)
    total = np.bincount(rings.ravel(), power.ravel())
    return size / (int(np.argmax(total[4 : size // 2])) + 4)


def coherence(image: np.ndarray) -> float:
    """Mean coherence of the structure tensor: 0 has no orientation, 1 has one."""
    dy, dx = (ndimage.gaussian_filter(image, 1, order=o) for o in ((1, 0), (0, 1)))
    xx, yy, xy = (ndimage.gaussian_filter(p, 8) for p in (dx * dx, dy * dy, dx * dy))
    return float(np.mean(np.hypot(xx - yy, 2 * xy) / (xx + yy + 1e-9)))


def test_same_numbers_same_print() -> None:
    (one,), (again,) = (list(draw_prints(5, 2, 1)) for _ in range(2))
    assert one[0] == again[0] == "3_1"
    np.testing.assert_array_equal(one[1], again[1])


def test_seeds_fingers_and_impressions_differ(some_prints: list[np.ndarray]) -> None:
    ((_, other_seed),) = draw_prints(1, 0, 1)
    pixels = {image.tobytes() for image in [*some_prints, other_seed]}
    assert len(pixels) == len(some_prints) + 1


def test_prints_look_like_scans(some_prints: list[np.ndarray]) -> None:
    for image in some_prints:
        assert image.shape == IMPRESSION_SHAPE
        assert image.dtype == np.uint8
        corners = np.concatenate([image[:20, :20], image[:20, -20:], image[-20:, -20:]])
        assert np.median(corners) >= 250, "the ground is white"
        assert centre(image).std() > 50, "the middle is ridges and valleys"
        assert np.percentile(centre(image), 5) < 120
        assert np.percentile(centre(image), 95) > 200


def test_ridge_period(some_prints: list[np.ndarray]) -> None:
    periods = [radial_peak(centre(image)) for image in some_prints]
    assert np.median(periods) == pytest.approx(synthetic_fingerprints.MEAN_PERIOD, abs=1.2)
    assert all(6.5 < period < 12 for period in periods)


def test_ridges_have_an_orientation(some_prints: list[np.ndarray]) -> None:
    noise = np.random.default_rng(0).normal(128, 60, (128, 128))
    for image in some_prints:
        assert coherence(centre(image)) > 0.5 > 2 * coherence(noise)


def test_a_finger_is_the_same_whatever_was_drawn_before() -> None:
    finger = draw_finger(0, 0)
    assert finger.ridges.shape == FINGER_SHAPE
    assert np.abs(finger.ridges).max() <= 1
    draw_finger(0, 1)
    np.testing.assert_array_equal(finger.ridges, draw_finger(0, 0).ridges)


def test_ridges_follow_the_orientation() -> None:
    """Flat ridges: power is in the vertical frequency of the period, and nowhere else."""
    ridges = grow_ridges(np.zeros((90, 90), np.float32), 9.0, np.random.default_rng(0))
    power = np.abs(np.fft.fft2(ridges)) ** 2
    row, column = np.unravel_index(np.argmax(power), power.shape)
    assert min(row, 90 - row) == pytest.approx(10, abs=1)
    assert min(column, 90 - column) <= 1


@pytest.mark.parametrize(
    ("kind", "cores", "deltas"),
    [
        ("left loop", 1, 1),
        ("right loop", 1, 1),
        ("whorl", 2, 2),
        ("tented arch", 1, 1),
        ("arch", 0, 0),
    ],
)
def test_classes_have_their_singular_points(kind: FingerClass, cores: int, deltas: int) -> None:
    """Counted by the Poincare index: half a turn around a core, minus half around a delta."""
    theta = orientation_field(kind, (432, 400), np.random.default_rng(3))
    loop = [theta[:-1, :-1], theta[1:, :-1], theta[1:, 1:], theta[:-1, 1:], theta[:-1, :-1]]
    steps = [np.mod(b - a + np.pi / 2, np.pi) - np.pi / 2 for a, b in pairwise(loop)]
    index = np.rint(np.sum(steps, axis=0) / np.pi).astype(int)
    # Rows run downwards, so this loop is counter-clockwise, as orientations are.
    assert Counter(index[index != 0].tolist()) == Counter({1: cores, -1: deltas}) - Counter()


def test_class_shares_are_shares() -> None:
    assert sum(CLASS_SHARES.values()) == pytest.approx(1)


@pytest.mark.parametrize("scale", [1.0, 3.0, 40.0])
def test_smooth_noise_has_its_scale(scale: float) -> None:
    noise = smooth_noise((400, 400), scale, np.random.default_rng(0))
    assert noise.shape == (400, 400)
    assert noise.dtype == np.float32
    assert noise.std() == pytest.approx(1, rel=0.35)
    lag = round(scale)
    # A Gaussian blur of width s leaves a correlation of exp(-lag^2 / 4 s^2).
    correlation = np.corrcoef(noise[:, lag:].ravel(), noise[:, :-lag].ravel())[0, 1]
    assert correlation == pytest.approx(np.exp(-0.25), abs=0.15)
