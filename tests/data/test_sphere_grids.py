"""Coefficients of band-limited maps are exact on every grid."""

import math

import numpy as np
import pytest

from kod_bench.data.sphere_grids import analyse, colatitudes, degree_limit
from kod_bench.data.sphere_options import SphereGridName
from tests.diffusion.harmonics_by_scipy import harmonics_by_scipy

#: Rows, columns and band limit by the grids' papers; of the second driscoll-healy, twice theirs.
GRIDS: list[tuple[SphereGridName, int, int, int]] = [
    ("gauss-legendre", 16, 32, 16),
    ("gauss-legendre", 16, 31, 16),
    ("gauss-legendre", 30, 64, 30),
    ("cells", 16, 32, 16),
    ("cells", 15, 30, 15),
    ("cells", 30, 48, 24),
    ("poles", 17, 32, 16),
    ("poles", 37, 72, 36),
    ("poles", 18, 35, 17),
    ("driscoll-healy", 32, 32, 16),
    ("driscoll-healy", 32, 64, 32),
    ("driscoll-healy", 31, 62, 31),
    ("mcewen-wiaux", 16, 31, 16),
    ("mcewen-wiaux", 33, 65, 33),
]


def synthesise(
    coefficients: np.ndarray, grid: SphereGridName, rows: int, columns: int
) -> np.ndarray:
    """The map at the grid's points, from scipy's harmonics: (rows, columns)."""
    degrees = math.isqrt(len(coefficients))
    longitudes = (np.arange(columns) + (0.5 if grid == "cells" else 0)) * 2 * math.pi / columns
    colatitude = {
        "gauss-legendre": np.arccos(np.polynomial.legendre.leggauss(rows)[0][::-1]),
        "cells": (np.arange(rows) + 0.5) * math.pi / rows,
        "poles": np.linspace(0, math.pi, rows),
        "driscoll-healy": np.linspace(0, math.pi, rows, endpoint=False),
        "mcewen-wiaux": math.pi * (2 * np.arange(rows) + 1) / (2 * rows - 1),
    }[grid]
    assert colatitudes(grid, rows) == pytest.approx(colatitude, abs=1e-12)
    degree = np.floor(np.sqrt(np.arange(degrees**2) + 0.5)).astype(int)
    order = np.arange(degrees**2) - degree * (degree + 1)
    # sin(|m| phi) multiplies what cos(m phi) does: column l^2 + l + |m|, at longitude 0.
    meridian = harmonics_by_scipy(degrees, colatitude, np.zeros(rows))[
        :, degree * (degree + 1) + abs(order)
    ]
    turns = order[:, None] * longitudes
    waves = np.where(order[:, None] < 0, np.sin(-turns), np.cos(turns))
    return np.asarray((meridian * coefficients) @ waves)


def test_the_maps_of_these_tests_are_those_of_scipy() -> None:
    truth = np.random.default_rng(0).standard_normal(25)
    theta, phi = np.meshgrid(
        np.linspace(0, math.pi, 6), np.arange(9) * 2 * math.pi / 9, indexing="ij"
    )
    exact = harmonics_by_scipy(5, theta.ravel(), phi.ravel()) @ truth
    assert synthesise(truth, "poles", 6, 9).ravel() == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize(("grid", "rows", "columns", "limit"), GRIDS)
def test_coefficients_of_band_limited_maps_are_exact(
    grid: SphereGridName, rows: int, columns: int, limit: int
) -> None:
    assert degree_limit(grid, rows, columns) == limit
    truth = np.random.default_rng(rows).standard_normal(limit**2)
    values = synthesise(truth, grid, rows, columns)
    assert np.abs(analyse(values, grid, limit) - truth).max() < 1e-9
    # Fewer than the map has: what is left out does not come back under another name.
    fewer = limit // 3
    assert np.abs(analyse(values, grid, fewer) - truth[: fewer**2]).max() < 1e-9
    # More than it can have: those are zero.
    more = analyse(values, grid, limit + 3)
    assert np.abs(more[: limit**2] - truth).max() < 1e-9
    assert (more[limit**2 :] == 0).all()


@pytest.mark.parametrize(("grid", "rows", "columns", "limit"), GRIDS)
def test_noise_of_a_pixel_stays_noise(
    grid: SphereGridName, rows: int, columns: int, limit: int
) -> None:
    """No grid makes more of it than its sparsest rows, at the equator, would alone."""
    degrees = limit // 2
    noise = np.random.default_rng(0).standard_normal((20, rows, columns))
    power = np.mean([analyse(each, grid, degrees) ** 2 for each in noise])
    assert 0 < power < 1.1 * (2 * math.pi / columns) * (math.pi / (rows - 1)) * math.pi / 2


def test_what_varies_along_a_pole_row_is_its_mean() -> None:
    truth = np.random.default_rng(0).standard_normal(64)
    values = synthesise(truth, "poles", 17, 32)
    values[0] += np.sin(np.arange(32) * 2 * math.pi / 16)  # the mean stays
    assert analyse(values, "poles", 8) == pytest.approx(truth, abs=1e-9)
