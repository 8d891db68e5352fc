r"""Harmonic coefficients of maps on the grids that maps of the sphere come on.

A grid has H rows of W longitudes, evenly spaced. Its colatitudes, i = 0..H-1:

- *gauss-legendre*: the arc cosines of the Legendre nodes;
- *cells*: (i + 1/2) pi / H, the middles of equal-angle cells;
- *poles*: i pi / (H - 1), both poles among them;
- *driscoll-healy*: i pi / H, the north pole and not the south pole (Driscoll and Healy 1994);
- *mcewen-wiaux*: (2 i + 1) pi / (2 H - 1), the south pole alone (McEwen and Wiaux 2011).

The first longitude is 0, that of cells half a cell. A map's part of order m, f_m(theta), is by the
Legendre nodes' weights exactly integrated on the first grid. On the others, as in McEwen and Wiaux,
it continues over the poles around the circle, with the parity of m, as a trigonometric polynomial:

    f_m(theta) = sum_k c_k cos k theta  (m even),   sum_k s_k sin k theta  (m odd)

whose coefficients are discrete Fourier sums over the rows; its product with P_lm is then integrated
over theta exactly, by Fejer's first rule. So the coefficients of a map of degrees below
`degree_limit` are exact, up to rounding, also where fewer are asked for.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kod_bench.data.sphere_options import SphereGridName

FloatArray = NDArray[np.float64]


def colatitudes(grid: SphereGridName, rows: int) -> FloatArray:
    """(rows,) in [0, pi], from north to south, radians."""
    index = np.arange(rows)
    if grid == "gauss-legendre":
        return np.arccos(_legendre_nodes(rows)[0])
    if grid == "cells":
        return np.asarray((index + 0.5) * math.pi / rows)
    if grid == "poles":
        return np.asarray(index * math.pi / (rows - 1))
    if grid == "driscoll-healy":
        return np.asarray(index * math.pi / rows)
    return np.asarray((2 * index + 1) * math.pi / (2 * rows - 1))


def degree_limit(grid: SphereGridName, rows: int, columns: int) -> int:
    """L: a map of degrees below it is told apart from every other such map."""
    by_rows = rows - 1 if grid == "poles" else rows
    return min(by_rows, (columns + 1) // 2)


def analyse(values: FloatArray, grid: SphereGridName, degrees: int) -> FloatArray:
    """Coefficients of a map: (H, W) => (L^2,), ordered as in `diffusion.spherical_harmonics`.

    Args:
        values: once around, without a repeated meridian, north first.
        grid: where its rows are.
        degrees: L. Coefficients of degrees from `degree_limit` on are zero.
    """
    rows, columns = values.shape
    found = np.zeros(degrees**2)
    degrees = min(degrees, degree_limit(grid, rows, columns))
    waves = np.fft.rfft(values, axis=1)[:, :degrees] * (2 * math.pi / columns)
    if grid == "cells":
        waves = waves * np.exp(-1j * np.arange(degrees) * (math.pi / columns))
    for order, operator in enumerate(_operators(grid, rows, degrees)):
        moments = operator @ waves[:, order]
        degree = np.arange(order, degrees)
        centre = degree * (degree + 1)
        found[centre + order] = moments.real
        if order:
            found[centre - order] = -moments.imag
    return found


def projection_error(waves: NDArray[np.complex128], grid: SphereGridName, order: int) -> float:
    """Energy in maps' parts of one order that no function of degree below H on the grid has.

    Args:
        waves: (maps, H), Fourier coefficients of the rows at `order`.
        grid: where the rows might be.
        order: m, below H.
    """
    basis = _orthogonal(grid, waves.shape[1], order)
    rest = waves - (waves @ basis) @ basis.T
    return float((rest.real**2 + rest.imag**2).sum())


@lru_cache(maxsize=256)
def _orthogonal(grid: SphereGridName, rows: int, order: int) -> FloatArray:
    """(H, H - m) an orthonormal basis of the P_lm, l < H, at the rows."""
    from scipy.special import sph_harm_y

    degree = np.arange(order, rows)
    values = sph_harm_y(degree[None], order, colatitudes(grid, rows)[:, None], 0.0).real
    return np.asarray(np.linalg.qr(values)[0], np.float64)


@lru_cache(maxsize=4)  # of 12 MB at 721 rows and 64 degrees
def _operators(grid: SphereGridName, rows: int, degrees: int) -> list[FloatArray]:
    """For each order m < L, (L - m, H): f_m at the rows => its integrals with Y_lm, l = m..L-1."""
    if grid == "gauss-legendre":
        nodes, weights = _legendre_nodes(rows)
        return [each.T * weights for each in _harmonics(degrees, np.arccos(nodes))]
    if grid == "driscoll-healy":
        return _without_south_pole(_operators("poles", rows + 1, degrees))
    angles = colatitudes(grid, rows)
    at_pole = (angles < 1e-9) | (angles > math.pi - 1e-9)
    count = np.where(at_pole, 1.0, 2.0)  # around the circle, which meets other rows twice
    points = count.sum()
    waves = np.arange(int(points + 1) // 2)
    nodes, weights = _fejer(len(waves) + degrees)
    amplitude = np.where(waves > 0, 2.0, 1.0)[:, None] / points * count
    # By the parity of m: from waves to the nodes, and from rows to waves.
    at_nodes = [wave(nodes[:, None] * waves) for wave in (np.cos, np.sin)]
    of_rows = [amplitude * wave(waves[:, None] * angles) for wave in (np.cos, np.sin)]
    found = []
    for order, each in enumerate(_harmonics(degrees, nodes)):
        operator = (each.T * weights) @ at_nodes[order % 2] @ of_rows[order % 2]
        if order:  # a function has one value at a pole: what varies there is no part of it
            operator[:, at_pole] = 0
        found.append(operator)
    return found


def _without_south_pole(operators: list[FloatArray]) -> list[FloatArray]:
    """Those of rows i pi / H, i < H, from those of i <= H.

    At the pole only m = 0 is not zero. There are as many rows as waves k < H, so the value at the
    pole is the one at which the wave k = H vanishes.
    """
    rows = operators[0].shape[1] - 1
    alternating = np.where(np.arange(rows) % 2, -1.0, 1.0) * np.where(np.arange(rows), 2.0, 1.0)
    at_pole = -alternating * (-1.0) ** rows
    zonal = operators[0][:, :rows] + operators[0][:, rows:] * at_pole
    return [zonal, *(each[:, :rows] for each in operators[1:])]


def _harmonics(degrees: int, angles: FloatArray) -> list[FloatArray]:
    """For each m >= 0, (points, L - m): the real harmonics of order m at longitude 0."""
    import torch

    from kod_bench.diffusion.spherical_harmonics import legendre_functions

    # What has a negative stride is no tensor.
    values = legendre_functions(degrees, torch.from_numpy(np.ascontiguousarray(angles))).numpy()
    degree = np.arange(degrees)
    return [values[:, (degree * (degree + 1) + m)[m:]] for m in range(degrees)]


def _legendre_nodes(rows: int) -> tuple[FloatArray, FloatArray]:
    """Cosines from north to south, and weights, which sum to 2."""
    from scipy.special import roots_legendre

    nodes, weights = roots_legendre(rows)
    return nodes[::-1], weights[::-1]


def _fejer(count: int) -> tuple[FloatArray, FloatArray]:
    """Fejer's first rule: angles and weights, exact for cos k theta sin theta, k < count."""
    angles = (np.arange(count) + 0.5) * math.pi / count
    even = np.arange(1, count // 2 + 1)
    waves = np.cos(2 * angles[:, None] * even) / (4.0 * even**2 - 1)
    return angles, (2 - 4 * waves.sum(axis=1)) / count
