"""Where forward chains really end: measured, compared with a prior, and imitated by one.

A state of phases is summed up by its mean vectors: the mean of e^{i theta} over the pixels of each
channel, C points in the unit disc. Their angle is brightness, their length r is coherence.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kod_bench.diffusion.circle import bessel_ratio_inverse, sample_von_mises, wrap
from kod_bench.diffusion.constants import DeviceConstant

#: The longest mean vector of the matched prior: kappa = 100, a spread of 0.1 rad.
LONGEST = 0.995


def mean_vectors(state: Tensor) -> Tensor:
    """Mean of e^{i theta} of each channel: (B, C, H, W) phases -> (B, C, 2), real and imaginary."""
    return torch.stack([state.cos().mean((2, 3)), state.sin().mean((2, 3))], dim=-1)


@dataclass(frozen=True)
class TerminalMismatch:
    """How the end states of forward chains, image by image, differ from draws of the prior.

    Sampling starts from the prior as if it were the end state, so what differs here is an error
    that no network can mend. Phases are in radians, relative to the reference phase.
    """

    phase: float
    """Direction of the mean of e^{i theta} over pixels and images, at t = T."""
    order: float
    """|z| of one image (over all its pixels), averaged over images."""
    phase_spread: float
    """Root mean square of an image's own direction around `phase`."""
    order_spread: float
    """Standard deviation of |z| between images."""
    prior_phase: float
    """These four are the same for draws of the prior."""
    prior_order: float
    prior_phase_spread: float
    prior_order_spread: float


def terminal_mismatch(ends: Tensor, prior: Tensor, reference_phase: float) -> TerminalMismatch:
    """Compare two sets of `mean_vectors`, each (N, C, 2)."""
    phase, order, phase_spread, order_spread = _summary(ends, reference_phase)
    return TerminalMismatch(
        phase, order, phase_spread, order_spread, *_summary(prior, reference_phase)
    )


def _summary(vectors: Tensor, reference_phase: float) -> tuple[float, float, float, float]:
    vectors = vectors.double().mean(1)
    real, imaginary = vectors.mean(0).tolist()
    centre = math.atan2(imaginary, real)
    order = torch.linalg.vector_norm(vectors, dim=1)
    away = wrap(torch.atan2(vectors[:, 1], vectors[:, 0]) - centre)
    phase = wrap(torch.tensor(centre - reference_phase, dtype=torch.float64)).item()
    return (
        phase,
        order.mean().item(),
        away.square().mean().sqrt().item(),
        order.std(correction=0).item(),
    )


class EndStateLaw:
    """A prior whose images are as bright and as coherent as the end states of forward chains.

    A draw takes a mean vector per channel from a density fitted to those of the end states, then
    independent von Mises pixels with that mean. The density is a smoothed bootstrap (Silverman
    1986, section 6.4): an end state at random, moved by a normal of Scott's bandwidth, and shrunk
    towards the mean so that the covariance stays. It keeps what a normal would lose, such as pages
    that are either white or black.

    The pixels of a draw scatter its mean vector once more; so much less is the spread of the
    density, as far as the end states have it.

    Args:
        ends: (N, C, 2) mean vectors of end states.
        pixels: H W; None if those of a draw will not scatter its mean vector.

    Attributes:
        points: (N, 2C) float64, what a draw begins at.
        spread: (2C, 2C) float64, of the normal that moves it.
    """

    def __init__(self, ends: Tensor, pixels: int | None) -> None:
        points = ends.double().cpu().flatten(1)
        number, dimension = points.shape
        centre = points.mean(0)
        away = points - centre
        covariance = away.T @ away / number
        scatter = 0.0 if pixels is None else _pixel_covariance(ends.double().cpu(), pixels)
        wanted = _floored(covariance - scatter)
        # away @ shrink has the wanted covariance.
        shrink = _power(covariance, -0.5) @ _power(wanted, 0.5)
        bandwidth = number ** (-1 / (dimension + 4))
        scale = 1 / math.sqrt(1 + bandwidth**2)
        self.points = DeviceConstant(centre + scale * (away @ shrink))
        self.spread = DeviceConstant(scale * bandwidth * _power(wanted, 0.5))

    @classmethod
    def of(cls, points: Tensor, spread: Tensor) -> "EndStateLaw":
        """The law that has these `points` and this `spread`: one that was fitted before."""
        law = cls.__new__(cls)
        law.points, law.spread = DeviceConstant(points), DeviceConstant(spread)
        return law

    def vectors(self, count: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Draw mean vectors, (count, C, 2), each shorter than 1."""
        device = generator.device
        points, spread = self.points.on(device, dtype), self.spread.on(device, dtype)
        chosen = torch.randint(len(points), (count,), generator=generator, device=device)
        normal = torch.randn(
            (count, points.shape[1]), generator=generator, device=device, dtype=dtype
        )
        drawn = (points[chosen] + normal @ spread).view(count, -1, 2)
        length = torch.linalg.vector_norm(drawn, dim=-1, keepdim=True)
        shortened: Tensor = drawn * (LONGEST / length.clamp_min(LONGEST))
        return shortened

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw phases of shape (count, C, H, W) in float32."""
        inside = torch.float32 if generator.device.type == "mps" else torch.float64
        vectors = self.vectors(shape[0], generator, inside)
        concentration = bessel_ratio_inverse(torch.linalg.vector_norm(vectors, dim=-1))
        mean = torch.atan2(vectors[..., 1], vectors[..., 0])
        return sample_von_mises(mean[..., None, None], concentration, shape, generator)


def _pixel_covariance(ends: Tensor, pixels: int) -> Tensor:
    """Covariance (2C, 2C) of a mean vector of independent von Mises pixels around its mean."""
    order = torch.linalg.vector_norm(ends, dim=-1).clamp(1e-6, LONGEST)
    across = order / bessel_ratio_inverse(order)  # variance of sin around the mean
    along = 1 - across - order.square()
    unit = ends / torch.linalg.vector_norm(ends, dim=-1, keepdim=True).clamp_min(1e-12)
    turned = torch.stack([-unit[..., 1], unit[..., 0]], dim=-1)
    blocks = (
        along[..., None, None] * unit[..., :, None] * unit[..., None, :]
        + across[..., None, None] * turned[..., :, None] * turned[..., None, :]
    ).mean(0) / pixels
    channels = len(blocks)
    covariance = ends.new_zeros(channels, 2, channels, 2)
    each = torch.arange(channels)
    covariance[each, :, each, :] = blocks
    joint: Tensor = covariance.view(2 * channels, 2 * channels)
    return joint


def _floored(matrix: Tensor) -> Tensor:
    """The nearest positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    floored: Tensor = (vectors * values.clamp_min(0)) @ vectors.T
    return floored


def _power(matrix: Tensor, power: float) -> Tensor:
    """A symmetric positive semidefinite matrix to a power, zero where it is zero."""
    values, vectors = torch.linalg.eigh(matrix)
    largest = values[-1].clamp_min(1e-300)
    kept = values > 1e-12 * largest
    raised = torch.where(kept, values.clamp_min(1e-300) ** power, 0.0)
    result: Tensor = (vectors * raised) @ vectors.T
    return result
