"""Minutiae: of known skeletons, of waves with a known number of them, of prints."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from kod_bench.data import synthetic_fingerprints
from kod_bench.data.views import patch_view
from kod_bench.evaluation.measured import Measured
from kod_bench.evaluation.metrics import choose_metrics, score, score_real
from kod_bench.evaluation.minutiae import AREA, MIN_SIDE, minutia_densities, minutiae
from kod_bench.evaluation.texture import TextureStatistics, minutiae_distance
from tests.evaluation.pictures import blurred, grating, noise_like, real_images


def drawn(*lines: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in line] for line in lines])


LINE = drawn(
    "...........",
    ".#########.",
    "...........",
    "...........",
    "...........",
    "...........",
)
FORK = drawn(
    "...........",
    ".......##..",
    ".....##....",
    ".####......",
    ".....##....",
    ".......##..",
)
RING = drawn(
    "....###....",
    "...#...#...",
    "..#.....#..",
    "..#.....#..",
    "...#...#...",
    "....###....",
)


def test_a_line_ends_twice_a_fork_forks_once_and_a_ring_does_neither() -> None:
    endings, forks = minutiae(np.stack([LINE, FORK, RING]))
    assert endings.tolist() == [[0, 1, 1], [0, 1, 9], [1, 1, 8], [1, 3, 1], [1, 5, 8]]
    assert len(forks) == 1
    assert forks[0, 0] == 1
    assert np.abs(forks[0, 1:] - [3, 4]).max() <= 1


def test_images_know_nothing_of_each_other() -> None:
    """A ridge that leaves one image does not go on in the next."""
    down = np.zeros((2, 9, 9), dtype=bool)
    down[:, :, 4] = True
    endings, forks = minutiae(down)
    assert endings.tolist() == [[0, 0, 4], [0, 8, 4], [1, 0, 4], [1, 8, 4]]
    assert not len(forks)


def waves(side: int, period: float, places: list[tuple[float, float, int]], turn: float) -> Tensor:
    """Ridges with a dislocation at each place, of a sign: there one ends, or forks."""
    y, x = np.mgrid[0:side, 0:side].astype(float)
    phase = 2 * np.pi / period * (x * math.cos(turn) + y * math.sin(turn))
    for down, right, sign in places:
        phase = phase + sign * np.arctan2(y - down, x - right)
    return torch.from_numpy((127.5 + 100 * np.cos(phase)).round().astype(np.uint8))[None, None]


def scattered(
    side: int, period: float, generator: np.random.Generator
) -> list[tuple[float, float, int]]:
    """Places that are apart from each other and from the border."""
    found: list[tuple[float, float, int]] = []
    for _ in range(20):
        down, right = generator.uniform(6, side - 6, 2)
        if all(math.hypot(down - a, right - b) > 2 * period for a, b, _ in found):
            found.append((down, right, int(generator.choice([-1, 1]))))
    return found[: int(generator.integers(0, len(found) + 1))]


@pytest.mark.parametrize(
    ("side", "period"), [(32, 4.5), (32, 6.0), (48, 9.0), (64, 4.5), (64, 9.0)]
)
def test_as_many_are_found_as_there_are(side: int, period: float) -> None:
    generator = np.random.default_rng(side)
    places = [scattered(side, period, generator) for _ in range(60)]
    images = [waves(side, period, each, generator.uniform(0, math.pi)) for each in places]
    endings, forks = minutia_densities(torch.cat(images))
    found = (endings + forks) * (side - 8) ** 2 / AREA
    there = np.array([len(each) for each in places])
    assert there.std() > 0.5
    assert found.mean() == pytest.approx(there.mean(), rel=0.1)
    assert np.corrcoef(found, there)[0, 1] > 0.95
    # Where ridges are taken for valleys, what ended forks.
    others = minutia_densities(255 - torch.cat(images))
    assert sum(others).mean() == pytest.approx((endings + forks).mean(), rel=0.1)


def test_parallel_ridges_have_none_and_blank_images_are_left_out() -> None:
    stripes = torch.cat([grating(angle, 0.15, 64) for angle in (0.0, 0.4, 1.2, 2.0)])
    blank = torch.full_like(stripes[:1], 200)
    endings, forks = minutia_densities(torch.cat([stripes, blank]))
    assert endings[:4].tolist() == forks[:4].tolist() == [0] * 4
    assert np.isnan(endings[4])
    assert np.isnan(forks[4])


def test_the_column_is_there_from_32_pixels_on() -> None:
    small, large = (noise_like(torch.empty(40, 1, side, side)) for side in (MIN_SIDE - 1, MIN_SIDE))
    with pytest.raises(ValueError, match="at least 32 pixels a side, got 31x31"):
        minutia_densities(small)
    metrics = choose_metrics(["ending_density", "minutiae_distance"])
    columns = ["ending_density", "bifurcation_density", "minutiae_distance"]
    for images, is_there in ((small, False), (large, True)):
        measured = Measured.of(images, None)
        found, real = (f(measured, measured, 0, metrics) for f in (score, score_real))
        assert list(found) == list(real) == columns
        assert all((value is not None) == is_there for value in (*found.values(), *real.values()))
    blank = Measured.of(torch.zeros_like(large), None)
    assert set(score(blank, Measured.of(large, None), 0, metrics).values()) == {None}


def test_statistics_add_up() -> None:
    images = noise_like(torch.empty(30, 1, 32, 32))
    whole = TextureStatistics.of(images)
    parts = TextureStatistics.of(images[:11]) + TextureStatistics.of(images[11:])
    np.testing.assert_array_equal(whole.endings, parts.endings)
    np.testing.assert_array_equal(whole.bifurcations, parts.bifurcations)


def ranks(images: Tensor) -> None:
    """Other real ones before noisy ones before noise, and before blurred ones."""
    half = len(images) // 2
    reference = TextureStatistics.of(images[:half])
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(-50, 51, images[half:].shape, generator=generator)
    others = [
        images[half:],
        (images[half:] + noise).clamp(0, 255).to(torch.uint8),
        noise_like(images[half:]),
        blurred(images[half:], 1.5),
    ]
    real, noisy, only_noise, smooth = (
        minutiae_distance(TextureStatistics.of(each), reference) for each in others
    )
    assert real < noisy < only_noise
    assert real < smooth


def test_real_before_noisy_before_noise_on_synthetic_prints() -> None:
    pages = [
        page for _, page in synthetic_fingerprints.draw_prints(seed=0, finger=0, impressions=4)
    ]
    patches = np.concatenate([patch_view(page, 32, 0.5, "print") for page in pages])
    ranks(torch.from_numpy(patches)[:, None])


@pytest.mark.parametrize("side", [32, 64])
def test_real_before_noisy_before_noise_on_real_prints(side: int) -> None:
    ranks(real_images("fingerprints", 12_800 // side, side))


def test_turned_and_mirrored_prints_have_about_as_many() -> None:
    """Thinning has a direction, which is a part of the error of every density."""
    images = real_images("fingerprints", 200, 32)
    positions = [torch.rot90(images, turn, (2, 3)) for turn in range(4)]
    positions += [each.flip(3) for each in positions]
    densities = np.array([np.nanmean(minutia_densities(each), axis=1) for each in positions])
    spread = np.ptp(densities, axis=0) / densities.mean(0)
    assert (spread < 0.12).all(), spread
