"""Spectral diffusion on the sphere: noise that is white on the grid, as its harmonics see it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_choice, check_count, check_number, check_pair
from kod_bench.diffusion.constants import DeviceConstant
from kod_bench.diffusion.euclidean import EuclideanDiffusion, linear_betas
from kod_bench.diffusion.grid import Grid
from kod_bench.diffusion.process import Kind, standard_normal
from kod_bench.diffusion.spherical_harmonics import SphereGrid, cholesky_by_order, sphere_grid
from kod_bench.diffusion.variance_exploding import geometric_sigmas

Covariance = Literal["induced", "isotropic"]
Kernel = Literal["vp", "ve"]
Objective = Literal["spatial", "spectral"]


@dataclass(frozen=True, eq=False)
class SpectralNoise:
    """Gaussian noise on coefficients, N(0, R), in units in which a coefficient has variance 1.

    rho^2 = tr(F F^T) / L^2 is the mean variance of a coefficient of unit white noise, and
    R = F F^T / rho^2; or R = I, of equal trace.
    """

    grid: SphereGrid
    unit: float
    """rho."""
    covariance: Tensor
    """(L^2, L^2) R, float64."""
    factor: Tensor
    """(L^2, L^2) C, lower triangular, C C^T = R."""

    @classmethod
    def on(cls, grid: SphereGrid, kind: Covariance) -> "SpectralNoise":
        """The noise that white noise on the grid induces, or the isotropic one."""
        white = grid.covariance
        count = grid.degrees**2
        unit = math.sqrt(white.trace().item() / count)
        if kind == "isotropic":
            identity = torch.eye(count, dtype=torch.float64)
            return cls(grid, unit, identity, identity)
        covariance = white / unit**2
        return cls(grid, unit, covariance, cholesky_by_order(covariance, grid.order))

    @property
    def distance_to_induced(self) -> float:
        """|R - R'| / |R'| (Frobenius), R' what white noise on the grid induces."""
        return _distance(self.covariance, self.grid.covariance / self.unit**2)

    @property
    def distance_to_isotropic(self) -> float:
        """|R - c I| / |R| (Frobenius), with the best c."""
        best = self.covariance.trace() / len(self.covariance)
        return _distance(best * torch.eye(len(self.covariance)).double(), self.covariance)


class SphereDiffusion(EuclideanDiffusion):
    r"""Diffusion of spherical-harmonic coefficients (arXiv 2601.20498).

    Images are functions on a Gauss-Legendre grid of L colatitudes and 2 L longitudes; the state is
    their L^2 real coefficients of degrees below L, u = F f / rho (see `spherical_harmonics` and
    `SpectralNoise`), packed as (C, L, L). What is of higher degree is lost when they are encoded.
    White noise in space is coloured here:

        u_t = a_t u_0 + s_t eta,   eta ~ N(0, R)

    the kernel of du = -1/2 beta u dt + sqrt(beta) dV with E[V V^T] = t R. The reverse SDE has drift
    -1/2 beta u - beta R grad log p; in units of C with R = C C^T all is isotropic, so the ways back
    are those of `EuclideanDiffusion` with eta for eps, and x_0 is clamped on the grid. The prior
    is N(0, R).

    The network predicts a linear image of eta, so scaled that a guess of zero costs 1. The score is
    -R^{-1} eta / s_t, and the two objectives of the paper differ in how they measure its error e:

        spatial    e^T R e, what white noise on the grid counts; the network predicts C^{-1} eta
        spectral   e^T e, of coefficients; the network predicts R^{-1} eta, times a constant

    They agree where R is a multiple of I (`covariance: isotropic`), the control: noise that is
    the same in all coefficients, as if the grid had no poles.

    Args:
        shape: (C, L, 2 L).
        steps: T.
        covariance: "induced", R as above; or "isotropic", R = I.
        kernel: "vp", beta linear as in DDPM; or "ve", a = 1 and s geometric, in a frame where the
            variance stays near 1, as in `VarianceExploding`.
        objective: "spatial" or "spectral".
        sigma_range: s of the first and last step of "ve", in units of the noise on the grid.

    Attributes:
        noise: rho, R and C.

    Raises:
        ValueError: if a parameter is out of range, or the images are not L x 2 L.
    """

    structured = True
    # How well u_0 is known differs between degrees: "restart" would add one noise to all.
    samplers = ("ancestral", "ddim", "heun", "dpm-solver++")
    restarting = ()

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        steps: int,
        covariance: Covariance = "induced",
        kernel: Kernel = "vp",
        objective: Objective = "spatial",
        sigma_range: tuple[float, float] = (0.02, 100.0),
    ) -> None:
        check_count("steps", steps)
        check_choice("covariance", covariance, Covariance)
        check_choice("kernel", kernel, Kernel)
        check_choice("objective", objective, Objective)
        first, last = check_pair("sigma_range", sigma_range)
        check_number("sigma_range", first, 0, open_low=True)
        check_number("sigma_range", last, first, open_low=True)
        self.check_shape(shape)
        if kernel == "vp":
            kept = torch.cumprod(1 - linear_betas(steps), dim=0)
            signal, noise_std = kept.sqrt(), (1 - kept).sqrt()
        else:
            sigma = geometric_sigmas(first, last, steps)
            signal = (1 + sigma.square()).rsqrt()
            noise_std = signal * sigma
        super().__init__(shape, signal, noise_std)
        degrees = shape[1]
        self.state_shape = (shape[0], degrees, degrees)
        self.noise = SpectralNoise.on(sphere_grid(degrees), covariance)
        grid, factor = self.noise.grid, self.noise.factor
        identity = torch.eye(degrees**2, dtype=torch.float64)
        whiten = torch.linalg.solve_triangular(factor, identity, upper=False)
        if objective == "spectral":
            inverse = whiten.mT @ whiten
            scale = degrees / math.sqrt(inverse.trace().item())
            answer, question = scale * inverse, self.noise.covariance / scale
        else:
            answer, question = whiten, factor
        self._factor = DeviceConstant(factor)
        self._encode = DeviceConstant(grid.analysis / self.noise.unit)
        self._decode = DeviceConstant(grid.synthesis * self.noise.unit)
        self._to_prediction = DeviceConstant(answer)  # from eta
        self._to_noise = DeviceConstant(question)  # and back
        # White noise on the grid is what a network answers most easily: it becomes eta / rho.
        self.grid = Grid(
            height=degrees,
            width=2 * degrees,
            to_grid=self._decode.values,
            from_grid=answer @ self._encode.values,
        )

    @classmethod
    def kind_of(cls, parameters: Mapping[str, Any]) -> Kind:
        """A control where the noise is the same in all coefficients."""
        return "control" if parameters.get("covariance") == "isotropic" else "structured"

    @classmethod
    def check_shape(cls, shape: tuple[int, int, int]) -> None:
        """Refuse images that are not L x 2 L.

        Raises:
            ValueError: naming the shape.
        """
        super().check_shape(shape)
        if shape[2] != 2 * shape[1]:
            raise ValueError(
                "images on the sphere are L colatitudes x 2 L longitudes (data set sphere), "
                f"got shape {shape}"
            )

    def encode(self, images: Tensor) -> Tensor:
        """Images in [-1, 1], (B, C, L, 2 L) -> coefficients, (B, C, L, L)."""
        self.check_images(images)
        return self._coefficients(images)

    def decode(self, state: Tensor) -> Tensor:
        """Coefficients -> images, clamped to [-1, 1]."""
        self.check_states(state)
        return self._image(state).clamp(-1, 1)

    def diagnostics(self, prior: str | None = None) -> dict[str, float]:
        """How far the noise is from what the grid induces, and from isotropic noise."""
        self.check_prior(prior)
        return {
            "noise_from_induced": self.noise.distance_to_induced,
            "noise_from_isotropic": self.noise.distance_to_isotropic,
        }

    def image_of(self, state: Tensor, step: int, prediction: Tensor) -> Tensor:
        """u_0, given what the network says of eta."""
        noise = self._linear(self._to_noise, prediction)
        return (state - self.noise_std[step] * noise) / self.signal[step]

    def target(self, images: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """C^{-1} eta, or what goes with R^{-1} eta, (B, C, L, L)."""
        return self._linear(self._to_prediction, noise)

    def _start(self, images: Tensor) -> Tensor:
        return self.encode(images)

    def _draw_noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return self._linear(self._factor, standard_normal(like, generator))

    def _clamp(self, image: Tensor) -> Tensor:
        return self._coefficients(self._image(image).clamp(-1, 1))

    def _coefficients(self, images: Tensor) -> Tensor:
        flat = images.flatten(2) @ self._encode.on(images.device, images.dtype).mT
        return flat.view(-1, *self.state_shape)

    def _image(self, state: Tensor) -> Tensor:
        flat = state.flatten(2) @ self._decode.on(state.device, state.dtype).mT
        return flat.view(-1, *self.shape)

    def _linear(self, matrix: DeviceConstant, state: Tensor) -> Tensor:
        return (state.flatten(2) @ matrix.on(state.device, state.dtype).mT).view(state.shape)


def _distance(one: Tensor, other: Tensor) -> float:
    norms = torch.linalg.matrix_norm(torch.stack([one - other, other]))
    ratio: float = (norms[0] / norms[1]).item()
    return ratio
