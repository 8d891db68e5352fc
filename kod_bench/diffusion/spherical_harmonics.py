r"""Functions on the sphere, on a Gauss-Legendre grid and as real spherical-harmonic coefficients.

The grid has L colatitudes, whose cosines are the Gauss-Legendre nodes, and n longitudes, evenly
spaced from 0. Its quadrature weights w are exact for products of two functions of degree below L
if n >= 2 L - 1. With the real orthonormal harmonics as columns of Y (points x L^2):

    f = Y u                     synthesis
    u = F f,  F = Y^T diag(w)   analysis;  F Y = I

Y F projects onto the functions of degree below L. White noise eps on the grid becomes F eps, whose
covariance R = F F^T is no multiple of I: the weights suppress noise near the poles, where points
are dense (arXiv 2601.20498; its formulas were derived again, its notation may differ). By the grid's
symmetries R is zero unless two coefficients have the same order m and degrees l of one parity.

The matrices are dense and exact. They take 16 n L^3 bytes in float64 for Y and F together, and
8 L^4 for R: with n = 2 L it is 34 + 8 MB for L = 32, 537 + 134 MB for L = 64. scipy, which knows the
harmonics to high degree without overflow, is asked once, when a grid is made.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_count


@dataclass(frozen=True, eq=False)
class SphereGrid:
    """A Gauss-Legendre grid and the harmonics of degree below L on it; see `sphere_grid`.

    All tensors are float64 on the CPU. Points are counted along longitudes first; coefficients
    are ordered l^2 + l + m, with cos(m phi) for m > 0 and sin(|m| phi) for m < 0.
    """

    degrees: int
    """L: degrees are 0..L-1."""
    colatitudes: Tensor
    """(L,) in (0, pi), from north to south."""
    longitudes: Tensor
    """(n,) in [0, 2 pi)."""
    weights: Tensor
    """(L n,) quadrature weights; they sum to 4 pi."""
    synthesis: Tensor
    """(L n, L^2) Y."""
    analysis: Tensor
    """(L^2, L n) F."""

    @property
    def covariance(self) -> Tensor:
        """(L^2, L^2) R = F F^T, that of unit white noise on the grid."""
        return self.analysis @ self.analysis.mT

    @property
    def degree(self) -> Tensor:
        """(L^2,) int64: l of each coefficient."""
        return torch.arange(self.degrees**2).double().sqrt().floor().long()

    @property
    def order(self) -> Tensor:
        """(L^2,) int64: m of each coefficient."""
        degree = self.degree
        return torch.arange(self.degrees**2) - degree * (degree + 1)


@cache
def sphere_grid(degrees: int, longitudes: int | None = None) -> SphereGrid:
    """The grid for degrees 0..L-1. Shared: its tensors are not to be modified.

    Args:
        degrees: L.
        longitudes: n, at least 2 L - 1; default 2 L, which halves as often as L does.

    Raises:
        ValueError: if there are fewer longitudes than that.
    """
    check_count("degrees", degrees)
    count = 2 * degrees if longitudes is None else longitudes
    check_count("longitudes", count, 2 * degrees - 1)
    cosines, node_weights = np.polynomial.legendre.leggauss(degrees)
    # leggauss goes from -1, the south pole; pictures have north on top.
    colatitudes = np.arccos(cosines[::-1])
    angles = 2 * math.pi * np.arange(count) / count
    weights = np.repeat(node_weights[::-1], count) * (2 * math.pi / count)
    synthesis = real_harmonics(degrees, np.repeat(colatitudes, count), np.tile(angles, degrees))
    return SphereGrid(
        degrees=degrees,
        colatitudes=torch.from_numpy(colatitudes.copy()),
        longitudes=torch.from_numpy(angles),
        weights=torch.from_numpy(weights),
        synthesis=torch.from_numpy(synthesis),
        analysis=torch.from_numpy(synthesis.T * weights),
    )


def real_harmonics(
    degrees: int, colatitudes: "np.ndarray", longitudes: "np.ndarray"
) -> "np.ndarray":
    """Real orthonormal spherical harmonics at points, (points, L^2) float64.

    sqrt(2) Re Y_lm for m > 0, Y_l0, and sqrt(2) Im Y_l|m| for m < 0, with the Condon-Shortley
    phase, ordered l^2 + l + m.

    Args:
        degrees: L.
        colatitudes: (points,) in [0, pi].
        longitudes: (points,).
    """
    from scipy.special import sph_harm_y

    columns = np.empty((len(colatitudes), degrees**2))
    for degree in range(degrees):
        centre = degree * (degree + 1)
        orders = np.arange(degree + 1)
        # (points, l + 1) complex
        values = sph_harm_y(degree, orders[None], colatitudes[:, None], longitudes[:, None])
        columns[:, centre] = values[:, 0].real
        columns[:, centre + orders[1:]] = math.sqrt(2) * values[:, 1:].real
        columns[:, centre - orders[1:]] = math.sqrt(2) * values[:, 1:].imag
    return columns


def cholesky_by_order(covariance: Tensor, order: Tensor) -> Tensor:
    """The lower Cholesky factor of a covariance that has no entries between two orders m.

    Block by block, so that rounding cannot put anything between orders.

    Args:
        covariance: (L^2, L^2), positive definite.
        order: (L^2,) m of each coefficient.

    Returns:
        (L^2, L^2) C with C C^T the covariance; lower triangular, because degrees rise within each
        order.
    """
    factor = torch.zeros_like(covariance)
    for each in order.unique():
        block = torch.nonzero(order == each)[:, 0]
        rows, columns = block[:, None], block[None]
        factor[rows, columns] = torch.linalg.cholesky(covariance[rows, columns])
    return factor


def angular_power(coefficients: Tensor, degrees: int) -> Tensor:
    """Angular power spectrum, C_l = mean over m of u_lm^2.

    Args:
        coefficients: (..., L^2).
        degrees: L.

    Returns:
        (..., L).
    """
    per_degree = torch.tensor([2 * degree + 1 for degree in range(degrees)])
    sums = [each.square().sum(-1) for each in coefficients.split(per_degree.tolist(), dim=-1)]
    return torch.stack(sums, dim=-1) / per_degree.to(coefficients)
