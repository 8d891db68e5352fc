"""Distances of angular power spectra, and maps in the Mollweide projection."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from kod_bench.diffusion.spherical_harmonics import sphere_grid
from kod_bench.evaluation import Measured, Reference, marks, write_mollweide
from kod_bench.evaluation.angular import AngularSpectrum, spectrum_distance
from kod_bench.evaluation.metrics import score
from kod_bench.evaluation.mollweide import project
from tests.evaluation.test_evaluation import Pixels

L = 12


def maps(count: int, amplitude: float = 15.0, seed: int = 0) -> Tensor:
    """White coefficients, without a mean, around gray 128: (count, 1, L, 2 L) uint8."""
    generator = torch.Generator().manual_seed(seed)
    grid = sphere_grid(L)
    coefficients = torch.randn(count, L**2, generator=generator, dtype=torch.float64)
    coefficients[:, 0] = 0
    values = 128 + amplitude / 4 * coefficients @ grid.synthesis.mT
    return values.round().clamp(0, 255).byte().reshape(count, 1, L, 2 * L)


def test_equal_spectra_are_at_zero_and_scaled_ones_at_the_logarithm() -> None:
    one = AngularSpectrum.of(maps(200))
    assert spectrum_distance(one, one) == 0
    scaled = AngularSpectrum(one.count, 3.0 * one.power)
    assert spectrum_distance(one, scaled) == pytest.approx(math.log(3))
    assert spectrum_distance(scaled, one) == pytest.approx(math.log(3))
    # The same maps at twice the amplitude, rounded to bytes: four times the power.
    twice = AngularSpectrum.of(maps(200, 30.0))
    assert spectrum_distance(one, twice) == pytest.approx(math.log(4), abs=0.01)


def test_other_draws_of_one_law_are_near_and_a_turn_is_nothing() -> None:
    images = maps(400)
    one, two = AngularSpectrum.of(images), AngularSpectrum.of(maps(400, seed=1))
    # log C_l of 400 (2 l + 1) squares has a deviation of about sqrt(2 / 400 (2 l + 1)), twice
    assert 0 < spectrum_distance(one, two) < 2 * math.sqrt(4 / (400 * 3))
    turned = AngularSpectrum.of(images.roll(5, dims=3).flip(2))
    assert spectrum_distance(one, turned) == pytest.approx(0, abs=1e-12)


def test_parts_add_up_and_the_mean_level_is_nothing() -> None:
    images = maps(20)
    whole = AngularSpectrum.of(images)
    parts = AngularSpectrum.of(images[:7]) + AngularSpectrum.of(images[7:])
    assert (parts.count, parts.power) == (20, pytest.approx(whole.power))
    assert spectrum_distance(whole, AngularSpectrum.of(images - 30)) < 1e-9
    assert spectrum_distance(whole, AngularSpectrum.of(images.expand(-1, 3, -1, -1))) < 1e-9


def test_blank_maps_have_no_distance_and_other_shapes_are_refused() -> None:
    blank = AngularSpectrum.of(torch.full((3, 1, L, 2 * L), 200, dtype=torch.uint8))
    assert math.isnan(spectrum_distance(blank, AngularSpectrum.of(maps(3))))
    with pytest.raises(ValueError, match="twice as wide as high"):
        AngularSpectrum.of(torch.zeros(3, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="8 and 12 degrees"):
        spectrum_distance(AngularSpectrum(1, np.ones(8)), AngularSpectrum(1, np.ones(12)))


def test_only_maps_have_the_metric_and_its_mark(tmp_path: Path) -> None:
    images = maps(60)
    plain, sphere = (
        Reference.load(
            train=images[:40],
            test=images[40:],
            data_hash="d",
            sample_count=20,
            reference_count=20,
            seed=0,
            extractor=Pixels(),
            folder=tmp_path,
            on_sphere=on_sphere,
        )
        for on_sphere in (False, True)
    )
    assert plain.real["spectrum_distance"] is None
    assert plain.measured.spectrum is None
    real = sphere.real["spectrum_distance"]
    assert real is not None
    assert 0 < real < 1
    again = Reference.load(
        train=images[:40],
        test=images[40:],
        data_hash="d",
        sample_count=20,
        reference_count=20,
        seed=0,
        extractor=Pixels(),
        folder=tmp_path,
        on_sphere=True,
    )
    samples = Measured.of(images[:20], Pixels(), on_sphere=True)
    columns = [score(samples, each.measured, 0)["spectrum_distance"] for each in (sphere, again)]
    assert columns[0] == columns[1] is not None
    bad = score(Measured.of(maps(20, 30.0), Pixels(), on_sphere=True), sphere.measured, 0)
    assert (bad["spectrum_distance"] or 0) > (columns[0] or 1)
    assert marks(4096) is None
    assert "equirectangular" in (marks(4096, on_sphere=True) or "")
    both = (marks(9, on_sphere=True) or "").split("; ")
    assert len(both) == 2
    assert both[0] == marks(9)


def test_mollweide_keeps_areas_and_places() -> None:
    grid = sphere_grid(L)
    # Only the northern fifth of the area: z > 0.6
    cap = (torch.cos(grid.colatitudes) > 0.6).double()[:, None].expand(L, 2 * L)
    picture = project((200 * cap).byte()[None], 300)
    inside = picture[:, :, 0] < 255
    assert inside.mean() == pytest.approx(math.pi / 4, abs=0.005), "an ellipse of half axes 2 and 1"
    share = picture[:, :, 0][inside].mean() / 200
    # The rows of the grid stand for their quadrature weights, up to the bilinear slope.
    weights = grid.weights.reshape(L, -1).sum(dim=1)
    expected = (weights * cap[:, 0]).sum() / weights.sum()
    assert share == pytest.approx(expected.item(), abs=0.03)
    middle = torch.zeros(1, L, 2 * L, dtype=torch.uint8)
    middle[:, :, L - 2 : L + 3] = 250  # around longitude pi
    columns = project(middle, 100)[50, :, 0]
    assert columns[100] > 240
    assert columns[5] == columns[-6] == 0


def test_the_picture_holds_the_first_sixteen_maps(tmp_path: Path) -> None:
    path = tmp_path / "maps.png"
    write_mollweide(path, maps(20))
    with Image.open(path) as sheet:
        assert sheet.size == (4 * 248 + 8, 4 * 128 + 8)
        assert sheet.getpixel((0, 0)) == (255, 255, 255)
        assert len(sheet.convert("L").getcolors() or []) > 50
    write_mollweide(path, maps(2))
    with Image.open(path) as sheet:
        assert sheet.size == (2 * 248 + 8, 128 + 8)
