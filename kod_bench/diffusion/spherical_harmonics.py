r"""Functions on the sphere, on a Gauss-Legendre grid and as real spherical-harmonic coefficients.

The grid has L colatitudes, whose cosines are the Gauss-Legendre nodes, and n longitudes, evenly
spaced from 0. Its quadrature weights w are exact for products of two functions of degree below L
if n >= 2 L - 1. With the real orthonormal harmonics as columns of Y (points x L^2):

    f = Y u                     synthesis
    u = F f,  F = Y^T diag(w)   analysis;  F Y = I

Y F projects onto the functions of degree below L. White noise eps on the grid becomes F eps, whose
covariance R = F F^T is no multiple of I: the weights suppress noise near the poles, where points
are dense (arXiv 2601.20498; its formulas were derived again, its notation may differ). By the
grid's symmetries R is zero unless two coefficients have the same order m and degrees l of one
parity.

The matrices are dense and exact. They take 16 n L^3 bytes in float64 for Y and F together, and
8 L^4 for R: with n = 2 L it is 34 + 8 MB for L = 32, 537 + 134 MB for L = 64.

Y_lm is a function of the colatitude times a wave around the axis: of the normalised associated
Legendre functions, with the Condon-Shortley phase,

    P_lm(cos theta) = (-1)^m sqrt((2 l + 1) / (4 pi) (l - m)! / (l + m)!)
                      sin^m theta d^m P_l(x) / dx^m at x = cos theta
"""

import math
from dataclasses import dataclass
from functools import cache

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
        return _orders(self.degrees)


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
    cosines, node_weights = gauss_legendre(degrees)
    colatitudes = cosines.acos()
    angles = 2 * math.pi * torch.arange(count).double() / count
    # Whole turns are taken off m phi while it is an integer, which is exact.
    phases = angles[torch.arange(count)[:, None] * torch.arange(degrees) % count]
    # (L, 1, L^2) times (n, L^2)
    synthesis = (legendre_functions(degrees, colatitudes)[:, None] * _waves(phases)).flatten(0, 1)
    weights = node_weights.repeat_interleave(count) * (2 * math.pi / count)
    return SphereGrid(
        degrees=degrees,
        colatitudes=colatitudes,
        longitudes=angles,
        weights=weights,
        synthesis=synthesis,
        analysis=synthesis.mT * weights,
    )


def gauss_legendre(count: int) -> tuple[Tensor, Tensor]:
    """The nodes and weights of Gauss-Legendre quadrature on [-1, 1], exact to degree 2 count - 1.

    The nodes are the eigenvalues of the Jacobi matrix of the Legendre polynomials (Golub and
    Welsch, Math. Comp. 23, 1969), which Newton's steps polish as the zeros x of P_count; the
    weights are 2 / ((1 - x^2) P_count'(x)^2).

    Returns:
        (count,) nodes that fall, as cosines do from north to south, and (count,) weights, which
        sum to 2; float64.
    """
    check_count("count", count)
    number = torch.arange(1, count).double()
    beside = number / (4 * number.square() - 1).sqrt()
    nodes = torch.linalg.eigvalsh(torch.diag(beside, 1) + torch.diag(beside, -1)).flip(0)
    for _ in range(2):
        values, slopes = _legendre_polynomial(count, nodes)
        nodes = nodes - values / slopes
    nodes = (nodes - nodes.flip(0)) / 2  # rounding made them asymmetric
    _, slopes = _legendre_polynomial(count, nodes)
    weights = 2 / ((1 - nodes.square()) * slopes.square())
    return nodes, weights


def _legendre_polynomial(degree: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """P_l and its derivative inside (-1, 1), for l > 0."""
    before, value = torch.ones_like(x), x
    for each in range(2, degree + 1):
        before, value = value, ((2 * each - 1) * x * value - (each - 1) * before) / each
    return value, degree * (before - x * value) / (1 - x.square())


def real_harmonics(degrees: int, colatitudes: Tensor, longitudes: Tensor) -> Tensor:
    """Real orthonormal spherical harmonics at points, (points, L^2) float64.

    sqrt(2) Re Y_lm for m > 0, Y_l0, and sqrt(2) Im Y_l|m| for m < 0, with the Condon-Shortley
    phase, ordered l^2 + l + m.

    Args:
        degrees: L.
        colatitudes: (points,) in [0, pi].
        longitudes: (points,).
    """
    phases = longitudes.double()[:, None] * torch.arange(degrees)
    return legendre_functions(degrees, colatitudes) * _waves(phases)


def legendre_functions(degrees: int, colatitudes: Tensor) -> Tensor:
    """What real harmonics are without their waves, (points, L^2) float64.

    sqrt(2) P_l|m|(cos theta), which cos(m phi) and sin(|m| phi) multiply, and P_l0, ordered
    l^2 + l + m. For each order, degrees rise by the standard forward column method of Holmes and
    Featherstone (J. Geodesy 76, 2002), whose functions are these times sqrt(4 pi), without the
    phase:

        P_lm = a_lm (cos theta P_l-1,m - P_l-2,m / a_l-1,m),  a_lm^2 = (4 l^2 - 1) / (l^2 - m^2)
        P_mm = -sqrt((2 m + 1) / (2 m)) sin theta P_m-1,m-1,  P_00 = 1 / sqrt(4 pi)

    Near the poles P_mm of a high order underflows. From there to degree l a column grows by
    sqrt((2 l + 1) / (2 m + 1) (l + m)! / ((l - m)! (2 m)!)) < 10^(L / 4) at most, so what is lost
    is below 10^(L / 4 - 307): nothing, for every L whose matrices have room.

    Args:
        degrees: L.
        colatitudes: (points,) theta in [0, pi].
    """
    check_count("degrees", degrees)
    theta = colatitudes.double()[:, None]
    cosine, sine = theta.cos(), theta.sin()
    columns = torch.empty(len(theta), degrees**2, dtype=torch.float64)
    # (points, l + 1): all orders of one degree
    before, values = theta[:, :0], torch.full_like(theta, 1 / math.sqrt(4 * math.pi))
    for degree in range(degrees):
        if degree:
            square = torch.arange(degree).double().square()
            rise = ((4 * degree**2 - 1) / (degree**2 - square)).sqrt()
            # 1 / a_l-1,m, which is 0 for m = l - 1
            fall = (((degree - 1) ** 2 - square) / (4 * (degree - 1) ** 2 - 1)).sqrt()
            inner = rise * (cosine * values - fall * torch.nn.functional.pad(before, (0, 1)))
            last = -math.sqrt((2 * degree + 1) / (2 * degree)) * sine * values[:, -1:]
            before, values = values, torch.cat([inner, last], dim=1)
        centre = degree * (degree + 1)
        columns[:, centre] = values[:, 0]
        doubled = math.sqrt(2) * values[:, 1:]
        columns[:, centre + 1 : centre + degree + 1] = doubled
        columns[:, centre - degree : centre] = doubled.flip(1)
    return columns


def _waves(phases: Tensor) -> Tensor:
    """(points, L) m phi, m = 0..L-1 => (points, L^2): cos(m phi), of m < 0 sin(|m| phi)."""
    waves = torch.cat([phases[:, 1:].flip(1).sin(), phases.cos()], dim=1)
    degrees = phases.shape[1]
    return waves[:, _orders(degrees) + degrees - 1]


def _orders(degrees: int) -> Tensor:
    """(L^2,) int64: m of each coefficient."""
    return torch.cat([torch.arange(-degree, degree + 1) for degree in range(degrees)])


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
    for each in sorted(set(order.tolist())):
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
    power = coefficients.square()
    of_degree = [power[..., each**2 : (each + 1) ** 2].mean(-1) for each in range(degrees)]
    return torch.stack(of_degree, dim=-1)
