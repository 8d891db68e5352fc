"""Texture distances: known answers on gratings, and the right order on real images."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from kod_bench.data import synthetic_fingerprints
from kod_bench.data.views import patch_view
from kod_bench.evaluation.spectrum import radial_spectrum, rings
from kod_bench.evaluation.structure_tensor import orientation_and_coherence
from kod_bench.evaluation.texture import (
    TextureStatistics,
    coherence_distance,
    frequency_distance,
    orientation_distance,
)
from kod_bench.evaluation.wasserstein import circle_distance, line_distance, sample_distance
from tests.evaluation.pictures import REAL_SETS, blurred, grating, noise_like, real_images

DISTANCES = {
    "orientation": orientation_distance,
    "coherence": coherence_distance,
    "frequency": frequency_distance,
    "order": lambda one, two: sample_distance(one.order, two.order),
}


def random_masses(seed: int, count: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).random(count)


def test_line_and_sample_distances_are_scipys() -> None:
    one, two = random_masses(0), random_masses(1)
    places = np.arange(20) * 0.1
    expected = wasserstein_distance(places, places, one, two)
    assert line_distance(one, two, 2.0) == pytest.approx(expected)
    assert sample_distance(one, two[:7]) == pytest.approx(wasserstein_distance(one, two[:7]))


def test_circle_distance_is_the_best_cut_of_the_circle() -> None:
    one, two = random_masses(0), random_masses(1)
    cuts = [line_distance(np.roll(one, k), np.roll(two, k), math.pi) for k in range(20)]
    assert circle_distance(one, two, math.pi) == pytest.approx(min(cuts))
    assert min(cuts) < 0.99 * max(cuts)
    assert circle_distance(two, one, math.pi) == pytest.approx(circle_distance(one, two, math.pi))


@pytest.mark.parametrize(("shift", "expected"), [(0, 0.0), (3, 0.3), (10, 1.0), (17, 0.3)])
def test_a_turned_point_mass_goes_the_short_way(shift: int, expected: float) -> None:
    point = np.eye(20)[4]
    assert circle_distance(point, np.roll(point, shift), 2.0) == pytest.approx(expected)


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.1, math.pi / 2, 2.0, 2.9])
def test_orientation_of_a_grating(angle: float) -> None:
    orientation, coherence = orientation_and_coherence(grating(angle, 0.11))
    inner = orientation[:, 8:-8, 8:-8]
    error = torch.remainder(inner - angle + math.pi / 2, math.pi) - math.pi / 2
    assert error.abs().max() < math.radians(1.5)
    assert coherence[:, 8:-8, 8:-8].min() > 0.95


def test_flat_areas_and_noise_have_no_direction() -> None:
    flat = torch.full((1, 3, 16, 16), 255, dtype=torch.uint8)
    assert orientation_and_coherence(flat)[1].max() == 0
    noisy = orientation_and_coherence(noise_like(torch.empty(4, 1, 32, 32)))[1]
    assert noisy.mean() < 0.5
    blank = TextureStatistics.of(flat)
    assert math.isnan(orientation_distance(blank, blank))
    assert math.isnan(frequency_distance(blank, blank))
    assert coherence_distance(blank, blank) == sample_distance(blank.order, blank.order) == 0


def test_turned_and_widened_gratings_are_as_far_apart_as_they_were_moved() -> None:
    base = TextureStatistics.of(grating(0.3, 0.10))
    turned = TextureStatistics.of(grating(0.3 + 0.5, 0.10))
    assert orientation_distance(base, turned) == pytest.approx(0.5, abs=0.05)
    wider = TextureStatistics.of(grating(0.3, 0.16))
    assert frequency_distance(base, wider) == pytest.approx(0.06, abs=0.01)
    fainter = TextureStatistics.of(grating(0.3, 0.10, contrast=20))
    assert frequency_distance(base, fainter) < 0.005


def test_spectrum_of_a_grating_is_at_its_frequency() -> None:
    spectrum = radial_spectrum(grating(0.0, 0.25))
    assert spectrum.sum() == pytest.approx(1.0, abs=1e-3)
    assert abs(spectrum.argmax() - 16) <= 1  # 32 bins up to 0.5
    assert radial_spectrum(torch.zeros(2, 1, 16, 16, dtype=torch.uint8)).sum() == 0


@pytest.mark.parametrize("side", [27, 28, 36, 48, 60, 96, 100])
def test_frequencies_on_the_edge_of_a_ring_are_in_the_outer_one(side: int) -> None:
    """Exactly: along an even side every frequency of the transform is an edge."""
    found = rings(side, side)
    half = side // 2
    turns = np.minimum(np.arange(side), side - np.arange(side)).tolist()
    exact = [
        [math.isqrt((2 * half) ** 2 * (i * i + j * j) // side**2) for j in turns] for i in turns
    ]
    assert found.tolist() == exact
    if side % 2 == 0:
        assert found[0].tolist() == turns
        assert found[half // 5 * 3, half // 5 * 4] == half // 5 * 5  # 3, 4, 5


def test_rings_of_sides_that_differ_are_exact_and_large_ones_do_not_overflow() -> None:
    for height, width in ((8, 28), (28, 36), (45, 100), (1999, 2000)):
        found, half = rings(height, width), min(height, width) // 2
        assert np.array_equal(found.T, rings(width, height))
        for i, j in (
            np.random.default_rng(0).integers(0, [height // 2, width // 2], (50, 2)).tolist()
        ):
            square = Fraction(i, height) ** 2 + Fraction(j, width) ** 2
            assert found[i, j] == math.isqrt(math.floor(square * (2 * half) ** 2))


@pytest.mark.parametrize("side", [28, 36, 48, 60, 100])
def test_a_wave_has_two_thirds_of_its_energy_in_its_own_ring(side: int) -> None:
    """The Hann window's three lines, amplitudes 1/4, 1/2, 1/4, which bins of other widths mix."""
    for turns in range(3, side // 2 - 2):
        wave = np.cos(2 * math.pi * turns * np.arange(side) / side)
        images = np.broadcast_to(np.rint(127.5 + 100 * wave), (1, 1, side, side)).astype(np.uint8)
        spectrum = radial_spectrum(torch.from_numpy(images.copy()))
        assert spectrum[turns] == pytest.approx(2 / 3, abs=0.12), turns
        assert spectrum[turns - 1 : turns + 2].sum() > 0.97, turns


def test_statistics_add_up_and_repeat_to_the_last_bit() -> None:
    images = noise_like(torch.empty(300, 3, 16, 12))
    whole, again = TextureStatistics.of(images), TextureStatistics.of(images)
    parts = TextureStatistics.of(images[:120]) + TextureStatistics.of(images[120:])
    for field in ("orientation", "coherence", "spectrum", "order"):
        assert np.array_equal(getattr(whole, field), getattr(again, field))
        np.testing.assert_allclose(getattr(parts, field), getattr(whole, field), rtol=1e-9)
    for distance in DISTANCES.values():
        assert distance(whole, again) == 0
    with pytest.raises(ValueError, match="differ in size"):
        whole + TextureStatistics.of(images.transpose(2, 3))


def test_gray_and_three_equal_channels_are_one() -> None:
    gray = noise_like(torch.empty(5, 1, 16, 16))
    one, three = TextureStatistics.of(gray), TextureStatistics.of(gray.expand(-1, 3, -1, -1))
    for name, distance in DISTANCES.items():
        assert distance(one, three) < 1e-6, name


@pytest.mark.parametrize("shape", [(0, 1, 16, 16), (2, 1, 7, 16)])
def test_too_little_to_measure_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one and 8 pixels"):
        TextureStatistics.of(torch.zeros(shape, dtype=torch.uint8))


def distances_of_real_blurred_noise(images: Tensor) -> dict[str, list[float]]:
    """Each distance of three sets from other images of the same source."""
    reference, real = TextureStatistics.of(images[0::2]), images[1::2]
    made = [TextureStatistics.of(each) for each in (real, blurred(real), noise_like(real))]
    return {name: [distance(m, reference) for m in made] for name, distance in DISTANCES.items()}


def assert_ranked(found: dict[str, list[float]], names: set[str]) -> None:
    for name in names:
        assert found[name] == sorted(found[name]), (name, found[name])
    # A round blur turns no orientation: that one knows noise, and coherence knows the blur.
    real, smooth, noise = found["orientation"]
    assert max(real, smooth) < 0.5 * noise
    pairs = zip(found["orientation"], found["coherence"], strict=True)
    together = [orientation / (math.pi / 4) + coherence for orientation, coherence in pairs]
    assert together == sorted(together)


@pytest.mark.parametrize("name", REAL_SETS)
def test_real_before_blurred_before_noise_on_real_sets(name: str) -> None:
    found = distances_of_real_blurred_noise(real_images(name, 800))
    assert_ranked(found, {"coherence", "frequency", "order"})


def test_real_before_blurred_before_noise_on_a_synthetic_print() -> None:
    ((_, page),) = synthetic_fingerprints.draw_prints(seed=0, finger=0, impressions=1)
    found = distances_of_real_blurred_noise(
        torch.from_numpy(patch_view(page, 32, 0.5, "print"))[:, None]
    )
    assert_ranked(found, {"coherence", "frequency"})
    # Clean prints have nearly all gray levels in equal shares, as noise has: to the order
    # parameter, which knows nothing else, a blur is worse.
    real, smooth, noise = found["order"]
    assert real < noise < smooth
