"""Draws flows of decaying two-dimensional turbulence.

The vorticity w of an incompressible flow u = (d psi / dy, -d psi / dx), lap psi = -w, in a periodic
box of side 2 pi obeys

    dw/dt + u . grad w = nu lap w.

It is solved by Fourier series (Orszag 1971): the product is made on the grid, and waves beyond two
thirds of the grid's are left out, so that none is taken for another; viscosity is exact, by an
integrating factor, and time goes by the classical Runge-Kutta scheme. A flow begins with random
phases and an energy spectrum E(k) ~ k^7 exp(-3.5 (k / k0)^2) about k0 = `FIRST_WAVE`, at a root
mean square velocity of 1.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from kod_bench.data import portable

FloatArray = NDArray[np.float64]
Spectrum = NDArray[np.complex128]  # (..., n, n // 2 + 1)

#: Raised when what is drawn changes: flows of an earlier number are not taken from the cache.
DRAWING = 2

FIRST_WAVE = 6.0
_COURANT = 0.5  # cells that the fastest flow, three times the mean, passes in a step


class Turbulence:
    """The vorticity equation on an n x n grid.

    Args:
        points: n, even.
        viscosity: nu.
    """

    def __init__(self, points: int, viscosity: float) -> None:
        self.points, self.viscosity = points, viscosity
        waves = fft.fftfreq(points, 1 / points)
        self._x = np.arange(points // 2 + 1)[None, :]  # along columns
        self._y = waves[:, None]  # along rows
        self.squares: FloatArray = np.asarray(self._x**2 + self._y**2, np.float64)
        self._inverse = np.divide(
            1.0, self.squares, out=np.zeros_like(self.squares), where=self.squares > 0
        )
        self._kept = (np.abs(self._x) < points / 3) & (np.abs(self._y) < points / 3)
        self.step = _COURANT * 2 * math.pi / points / 3

    def begin(self, count: int, generator: np.random.Generator) -> Spectrum:
        """The vorticity of so many flows, as Fourier coefficients: (count, n, n // 2 + 1)."""
        white = generator.standard_normal((count, self.points, self.points))
        # Of vorticity: E(k) k^2 over the k waves of a ring.
        shape = self.squares**2 * portable.exp(-1.75 * self.squares / FIRST_WAVE**2)
        vorticity = fft.rfft2(white) * shape * self._kept
        u, v = self.velocity(vorticity)
        speed = np.sqrt((u**2 + v**2).mean(axis=(1, 2), keepdims=True))
        return np.asarray(vorticity / speed)

    def velocity(self, vorticity: Spectrum) -> tuple[FloatArray, FloatArray]:
        """U along columns and v along rows, downwards, on the grid: (..., n, n) each."""
        stream = vorticity * self._inverse
        return self._on_grid(1j * self._y * stream), self._on_grid(-1j * self._x * stream)

    def advance(self, vorticity: Spectrum, time: float) -> Spectrum:
        """The vorticity a time later."""
        steps = max(1, math.ceil(time / self.step))
        dt = time / steps
        half = portable.exp(-self.viscosity * self.squares * dt / 2)
        for _ in range(steps):
            one = self._transport(vorticity)
            two = self._transport(half * (vorticity + dt / 2 * one))
            three = self._transport(half * vorticity + dt / 2 * two)
            four = self._transport(half * (half * vorticity + dt * three))
            vorticity = (
                half * (half * (vorticity + dt / 6 * one) + dt / 3 * (two + three)) + dt / 6 * four
            )
        return vorticity

    def energy(self, vorticity: Spectrum) -> FloatArray:
        """Mean of u^2 / 2 over the box, of each flow."""
        return self._mean_square(vorticity * np.sqrt(self._inverse)) / 2

    def enstrophy(self, vorticity: Spectrum) -> FloatArray:
        """Mean of w^2 / 2 over the box, of each flow."""
        return self._mean_square(vorticity) / 2

    def palinstrophy(self, vorticity: Spectrum) -> FloatArray:
        """Mean of |grad w|^2 / 2 over the box, of each flow."""
        return self._mean_square(vorticity * np.sqrt(self.squares)) / 2

    def spectrum(self, vorticity: Spectrum) -> FloatArray:
        """Energy of each flow in rings of wave numbers k - 1/2 to k + 1/2, k = 0, 1, ...

        Returns:
            (..., K); their sum is `energy`.
        """
        rings = np.rint(np.sqrt(self.squares)).astype(np.intp)
        each = self._weights() * np.abs(vorticity) ** 2 * self._inverse / 2
        found = np.zeros((*vorticity.shape[:-2], int(rings.max()) + 1))
        for ring in range(found.shape[-1]):
            found[..., ring] = each[..., rings == ring].sum(axis=-1)
        return found

    def _transport(self, vorticity: Spectrum) -> Spectrum:
        """-u . grad w = -div (u w), without waves that the grid would take for others."""
        u, v = self.velocity(vorticity)
        own = self._on_grid(vorticity)
        flux = 1j * self._x * fft.rfft2(u * own) + 1j * self._y * fft.rfft2(v * own)
        return np.asarray(-flux * self._kept)

    def _on_grid(self, spectrum: Spectrum) -> FloatArray:
        return np.asarray(fft.irfft2(spectrum, s=(self.points, self.points)), np.float64)

    def _weights(self) -> FloatArray:
        """Each coefficient stands for its conjugate, too, but in the first and the last column."""
        twice = np.full(self._x.shape[1], 2.0)
        twice[0] = 1
        if self.points % 2 == 0:
            twice[-1] = 1
        return np.asarray(twice / float(self.points) ** 4)

    def _mean_square(self, spectrum: Spectrum) -> FloatArray:
        return np.asarray((self._weights() * np.abs(spectrum) ** 2).sum(axis=(-2, -1)))
