import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kod_bench.data import DatasetOptions, load_dataset
from kod_bench.data.flow import FlowSource
from kod_bench.data.turbulence import FIRST_WAVE, Turbulence
from kod_bench.training import ShuffledImages


def flows(
    points: int = 32, viscosity: float = 0.0, count: int = 3
) -> tuple[Turbulence, np.ndarray]:
    solver = Turbulence(points, viscosity)
    return solver, solver.begin(count, np.random.default_rng(0))


def test_a_flow_is_incompressible_and_begins_at_unit_velocity() -> None:
    solver, vorticity = flows()
    u, v = solver.velocity(vorticity)
    waves = np.fft.fftfreq(32, 1 / 32)
    divergence = 1j * waves[None, None, :] * np.fft.fft2(u) + 1j * waves[
        None, :, None
    ] * np.fft.fft2(v)
    assert np.abs(np.fft.ifft2(divergence)).max() < 1e-10
    curl = 1j * waves[None, None, :] * np.fft.fft2(v) - 1j * waves[None, :, None] * np.fft.fft2(u)
    np.testing.assert_allclose(np.fft.ifft2(curl).real, np.fft.irfft2(vorticity), atol=1e-10)
    np.testing.assert_allclose((u**2 + v**2).mean(axis=(1, 2)), 1)


def test_energies_are_means_over_the_grid_and_sums_over_rings() -> None:
    solver, vorticity = flows()
    u, v = solver.velocity(vorticity)
    np.testing.assert_allclose(solver.energy(vorticity), (u**2 + v**2).mean(axis=(1, 2)) / 2)
    np.testing.assert_allclose(solver.spectrum(vorticity).sum(axis=-1), solver.energy(vorticity))
    own = np.fft.irfft2(vorticity)
    np.testing.assert_allclose(solver.enstrophy(vorticity), (own**2).mean(axis=(1, 2)) / 2)


def test_without_viscosity_energy_and_enstrophy_are_kept() -> None:
    # Both are invariants of Euler's equation in two dimensions, and of its truncation at 2/3.
    solver, before = flows()
    after = solver.advance(before, 0.5)
    assert np.abs(after - before).max() > 1
    np.testing.assert_allclose(solver.energy(after), solver.energy(before), rtol=1e-5)
    np.testing.assert_allclose(solver.enstrophy(after), solver.enstrophy(before), rtol=1e-4)


def test_a_single_wave_decays_as_its_viscosity_says() -> None:
    # Taylor and Green's vortex: the product of velocity and gradient is zero.
    solver = Turbulence(32, 0.05)
    place = np.arange(32) * 2 * math.pi / 32
    vorticity = np.fft.rfft2(2 * np.cos(2 * place)[:, None] * np.cos(2 * place)[None, :])[None]
    after = solver.advance(vorticity, 1.5)
    np.testing.assert_allclose(after, vorticity * math.exp(-0.05 * 8 * 1.5), atol=1e-8)


def test_enstrophy_decays_by_palinstrophy() -> None:
    solver, vorticity = flows(64, 5e-3, 2)
    time, values = 0.01, [vorticity]
    for _ in range(2):
        values.append(solver.advance(values[-1], time))
    slope = (solver.enstrophy(values[2]) - solver.enstrophy(values[0])) / (2 * time)
    np.testing.assert_allclose(slope, -2 * 5e-3 * solver.palinstrophy(values[1]), rtol=1e-3)


def test_energy_goes_to_large_waves_and_enstrophy_to_small_ones() -> None:
    # Kraichnan 1967 and Batchelor 1969; a peak that moves down and a steep tail behind it.
    solver, before = flows(64, 2e-3, 4)
    after = solver.advance(before, 2.0)
    first, last = (solver.spectrum(each).mean(axis=0) for each in (before, after))
    waves = np.arange(len(first))
    assert abs((first * waves).sum() / first.sum() - FIRST_WAVE) < 1.5
    assert (last * waves).sum() / last.sum() < (first * waves).sum() / first.sum()
    tail = slice(12, 20)
    slope = np.polyfit(np.log(waves[tail]), np.log(last[tail]), 1)[0]
    assert -7 < slope < -3
    assert last[20] > first[20]


def test_a_data_set_of_directions(tmp_path: Path) -> None:
    options = DatasetOptions.model_validate(
        {"name": "flow", "image_size": 32, "flow": {"count": 20}}
    )
    dataset = load_dataset(options, None, tmp_path)
    assert dataset.values == "angles"
    assert len(dataset.train) + len(dataset.test) == 20
    assert dataset.details.split == "by flow: 4 flows are for training, 1 others for testing"
    # Neighbours look into nearly the same direction.
    theta = dataset.train[:, 0].numpy()
    assert np.cos(np.diff(theta, axis=2)).mean() > 0.7


def stored(monkeypatch: pytest.MonkeyPatch, vorticity: NDArray[np.float64]) -> np.ndarray:
    """Fields (flows, 32, 32) of a data set whose flows begin like this on the solver's 64 x 64."""
    monkeypatch.setattr(Turbulence, "begin", lambda *_: np.fft.rfft2(vorticity))
    monkeypatch.setattr("kod_bench.data.flow.TIMES", (0.25,))
    options = DatasetOptions.model_validate(
        {"name": "flow", "image_size": 32, "flow": {"count": len(vorticity)}}
    )
    return np.stack([field.pixels for field in FlowSource(options).read(0)])


def test_angles_are_from_the_axis_of_columns_against_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A sum of waves of one length is a steady flow. With a > 0 it goes to the right in the upper
    # half and to the left below; with b > 0 downwards in the left half and upwards in the right.
    y, x = np.indices((64, 64)) * 2 * math.pi / 64
    strengths = [(1.0, 0.0), (0.0, 1.0), (1.0, 0.5), (-0.3, 1.0)]
    curls = [b * np.cos(x) - a * np.cos(y) for a, b in strengths]  # dv/dx - du/dy, y downwards
    fields = stored(monkeypatch, np.stack(curls))
    for (a, b), theta in zip(strengths, fields, strict=True):
        right, upwards = a * np.sin(y)[::2, ::2], -b * np.sin(x)[::2, ::2]
        velocity = right + 1j * upwards
        moves = np.abs(velocity) > 1e-6
        expected = velocity[moves] / np.abs(velocity[moves])
        np.testing.assert_allclose(np.exp(1j * theta[moves]), expected, atol=1e-6)
    # To the right; downwards; downwards at half the speed to the right.
    assert fields[0, 8, 3] == pytest.approx(0, abs=1e-6)
    assert fields[1, 3, 8] == pytest.approx(-math.pi / 2, abs=1e-6)
    assert fields[2, 8, 8] == pytest.approx(-math.atan(0.5), abs=1e-6)


@pytest.mark.parametrize(("flip", "axis"), [("horizontal", 2), ("vertical", 1)])
def test_a_flip_is_the_direction_of_the_mirrored_flow(
    monkeypatch: pytest.MonkeyPatch, flip: str, axis: int
) -> None:
    solver = Turbulence(64, 0.0)
    vorticity = np.fft.irfft2(solver.begin(4, np.random.default_rng(3)))
    # A mirror turns eddies the other way about. At point 0 it leaves the points that are shown.
    mirrored = -np.roll(np.flip(vorticity, axis), 1, axis)
    plain, expected = (stored(monkeypatch, each) for each in (vorticity, mirrored))
    images = torch.from_numpy(plain)[:, None]
    draw = ShuffledImages(images, torch.Generator().manual_seed(0), [f"{flip}-flip direction"])
    drawn = np.roll(math.pi * draw(64)[:, 0].numpy(), 1, axis)
    unchanged = np.roll(plain, 1, axis)
    kinds = [
        [
            [np.abs(np.exp(1j * one) - np.exp(1j * each)).max() < 1e-4 for each in known]
            for known in (unchanged, expected)
        ]
        for one in drawn
    ]
    # All flows, each with and without the flip, and nothing else.
    assert np.array(kinds).reshape(64, 8).sum(axis=1).tolist() == [1] * 64
    assert np.array(kinds).any(axis=0).all()


@pytest.mark.parametrize("points", [32, 64])
def test_no_wave_is_taken_for_another(points: int) -> None:
    solver = Turbulence(points, 0.0)
    waves = np.abs(np.fft.fftfreq(points, 1 / points))
    vorticity = solver.advance(solver.begin(1, np.random.default_rng(1)), 0.2)[0]
    power = np.abs(vorticity)
    assert power[waves >= points / 3].max() == 0
    assert power[:, np.arange(points // 2 + 1) >= points / 3].max() == 0
