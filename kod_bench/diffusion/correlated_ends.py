r"""A prior whose neighbouring phases agree as much as at the ends of forward chains.

Chains with local coupling end correlated: a phase says something about those next to it, which a
prior of independent pixels does not know.

A draw is the direction of a Gaussian field around a mean,

    arg(m + w),    E|w|^2 = 1,

with one complex m for each channel and w complex, stationary on the torus of pixels and independent
of m. It turns with the circle, so that no phase is special where there is no mean. m follows from
the mean vector that is wanted: of such a direction (a projected normal law)

    |E e^{i arg}| = sqrt(pi) / 2 a e^{-a^2 / 2} (I0(a^2 / 2) + I1(a^2 / 2)),    a = |m|

Its distance from arg m is then moved, quantile to quantile, to where a von Mises law of the same
mean vector has it: alone, a phase is drawn as `terminal.EndStateLaw` draws it.

The spectrum of w, between channels too, is found from that of the ends, of e^{i theta} less each
image's own mean. What arg makes of a spectrum is not known in closed form where there is a mean; so
it is drawn, compared and corrected by their ratio, a few times.
"""

import functools
import math

import torch
from torch import Tensor

from kod_bench.diffusion.circle import (
    TWO_PI,
    bessel_ratio_inverse,
    von_mises_quantile,
    wrap,
)
from kod_bench.diffusion.constants import DeviceConstant
from kod_bench.diffusion.terminal import LONGEST, EndStateLaw, mean_vectors

#: Corrections of the spectrum: each leaves about a tenth of what was wrong.
_CORRECTIONS = 4
#: Draws behind each correction.
_DRAWS = 256
#: Of the mean power of a spectrum, so that none of it is divided by nothing.
_LEAST_POWER = 1e-6
#: Mean vectors and distances from the mean in the table of directions.
_ORDERS, _DISTANCES = 200, 1025
#: The largest |m| looked for: it has a mean vector of 0.997.
_LARGEST_MEAN, _MEANS = 13.0, 4096


def residual_spectrum(state: Tensor) -> Tensor:
    """Power of e^{i theta} less its mean over each image and channel, between all channels.

    Args:
        state: (B, C, H, W) phases.

    Returns:
        (H, W, C, C) complex128, Hermitian: the mean over images of f_c f_d* / (H W), with f the
        discrete Fourier transform. On the CPU.
    """
    # MPS has no complex128.
    field = torch.complex(state.cos(), state.sin())
    field = field - field.mean((2, 3), keepdim=True)
    waves = torch.fft.fft2(field).permute(0, 2, 3, 1)
    power = torch.einsum("bhwc,bhwd->hwcd", waves, waves.conj()).cpu().to(torch.complex128)
    pixels = state.shape[2] * state.shape[3]
    spectrum: Tensor = power / (len(state) * pixels)
    return spectrum


def two_point_correlation(spectrum: Tensor) -> Tensor:
    """Mean of Re(z_x z*_{x+r}), z the residual of `residual_spectrum`, at every r, by channel.

    Args:
        spectrum: (H, W, C, C), as `residual_spectrum` has it.

    Returns:
        (C, H, W) float64; at r = 0 the mean square of the residual.
    """
    own = torch.diagonal(spectrum, dim1=2, dim2=3).real.permute(2, 0, 1)
    correlation: Tensor = torch.fft.ifft2(own.to(torch.complex128)).real
    return correlation


def correlation_distance(one: Tensor, other: Tensor) -> float:
    """Rms difference of two spectra's `two_point_correlation` over r other than 0 up to H/2, W/2.

    As far apart as pixels can be on the torus of the image; 0 for an image of one pixel.
    """
    difference = two_point_correlation(one) - two_point_correlation(other)
    height, width = (size // 2 + 1 for size in difference.shape[1:])
    apart = difference[:, :height, :width].flatten(1)[:, 1:]
    return float(apart.square().mean().sqrt()) if apart.numel() else 0.0


class EndStatistics:
    """What the priors and their distances need to know of states, taken a batch at a time."""

    def __init__(self) -> None:
        self._vectors: list[Tensor] = []
        self._power: Tensor | None = None

    def add(self, state: Tensor) -> None:
        """See (B, C, H, W) phases."""
        self._vectors.append(mean_vectors(state))
        power = len(state) * residual_spectrum(state)
        self._power = power if self._power is None else self._power + power

    @property
    def vectors(self) -> Tensor:
        """`mean_vectors` of all, (N, C, 2)."""
        return torch.cat(self._vectors)

    @property
    def spectrum(self) -> Tensor:
        """`residual_spectrum` of all.

        Raises:
            RuntimeError: if there are none.
        """
        if self._power is None:
            raise RuntimeError("no states were added")
        return self._power / sum(map(len, self._vectors))


class CorrelatedEndStateLaw:
    """The law of this file, fitted to the ends of chains.

    Args:
        ends: what is known of them.
        generator: source of the draws by which the spectrum is found.

    Attributes:
        means: the law of the images' means.
        root: (H, W, C, C) float64, what gives each wave its amplitude: real and imaginary parts.
    """

    root: tuple[DeviceConstant, DeviceConstant]

    def __init__(self, ends: EndStatistics, generator: torch.Generator) -> None:
        wanted = _regular(ends.spectrum)
        shape = (_DRAWS, wanted.shape[2], *wanted.shape[:2])
        # w has no part in an image's mean, but for what arg makes of it: no scatter to take away.
        self.means = EndStateLaw(ends.vectors, None)
        self._set_spectrum(wanted)
        for _ in range(_CORRECTIONS):
            found = _regular(residual_spectrum(self.sample(shape, generator)))
            self._set_spectrum(_corrected(self._spectrum, wanted, found))

    @classmethod
    def of(cls, means: EndStateLaw, real: Tensor, imaginary: Tensor) -> "CorrelatedEndStateLaw":
        """The law that has these `means` and this `root`: one that was fitted before."""
        law = cls.__new__(cls)
        law.means, law.root = means, (DeviceConstant(real), DeviceConstant(imaginary))
        return law

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw phases of shape (count, C, H, W) in float32."""
        count, device = shape[0], generator.device
        vectors = self.means.vectors(count, generator, torch.float32)
        order = torch.linalg.vector_norm(vectors, dim=-1)[..., None, None]
        towards = torch.atan2(vectors[..., 1], vectors[..., 0])[..., None, None]
        real, imaginary = (
            torch.randn((count, *shape[2:], shape[1]), generator=generator, device=device)
            for _ in range(2)
        )
        # Each wave gets its channels' joint amplitude.
        parts = [part.on(device, torch.float32) for part in self.root]
        root = torch.complex(*parts)
        waves = torch.einsum("hwcd,bhwd->bchw", root, torch.complex(real, imaginary))
        pixels = shape[2] * shape[3]
        # Turned so that the mean is real.
        field = torch.fft.ifft2(waves) * math.sqrt(pixels / 2) + _mean_of_order(order)
        return wrap(towards + _as_von_mises(torch.atan2(field.imag, field.real), order))

    def _set_spectrum(self, spectrum: Tensor) -> None:
        """Take a spectrum, of variance 1 in every channel and nothing at zero frequency."""
        spectrum = spectrum.clone()
        if spectrum.shape[0] * spectrum.shape[1] > 1:
            spectrum[0, 0] = 0
        variance = torch.diagonal(spectrum, dim1=2, dim2=3).real.mean((0, 1)).clamp_min(1e-300)
        unit = variance.rsqrt().to(spectrum.dtype)
        self._spectrum = spectrum * unit[:, None] * unit
        root = _root(self._spectrum)
        self.root = (DeviceConstant(root.real), DeviceConstant(root.imag))


def _regular(spectrum: Tensor) -> Tensor:
    """With a little power everywhere, for inverses."""
    channels = spectrum.shape[-1]
    mean = torch.diagonal(spectrum, dim1=2, dim2=3).real.mean().clamp_min(1e-12)
    floor = _LEAST_POWER * mean * torch.eye(channels, dtype=spectrum.dtype)
    regular: Tensor = spectrum + floor
    return regular


def _corrected(spectrum: Tensor, wanted: Tensor, found: Tensor) -> Tensor:
    """G S G^H with G = wanted^{1/2} found^{-1/2}: S by the ratio, and Hermitian as it was."""
    gain = _root(wanted) @ torch.linalg.inv(_root(found))
    corrected: Tensor = gain @ spectrum @ gain.mH
    return corrected


def _root(spectrum: Tensor) -> Tensor:
    """Hermitian square root of each (C, C) matrix."""
    values, vectors = torch.linalg.eigh(spectrum)
    root: Tensor = (vectors * values.clamp_min(0).sqrt().unsqueeze(-2)) @ vectors.mH
    return root


def projected_order(mean: Tensor) -> Tensor:
    """|E e^{i arg(m + w)}| for m >= 0 and a complex normal w of variance 1."""
    half = mean.square() / 2
    bessel: Tensor = torch.special.i0e(half) + torch.special.i1e(half)
    return math.sqrt(math.pi) / 2 * mean * bessel


def projected_density(angle: Tensor, mean: Tensor) -> Tensor:
    """Density of arg(m + w), per radian."""
    along = mean * angle.cos()
    # e^{-m^2} beside e^{along^2}, which alone could overflow.
    peak = torch.exp(-(mean * angle.sin()).square()) * (1 + torch.erf(along))
    return (torch.exp(-mean.square()) + math.sqrt(math.pi) * along * peak) / TWO_PI


def _mean_of_order(order: Tensor) -> Tensor:
    """The m whose `projected_order` is given, by table."""
    means, orders = (table.on(order.device, order.dtype) for table in _means_and_orders())
    right = torch.searchsorted(orders, order).clamp(1, _MEANS - 1)
    low, high = orders[right - 1], orders[right]
    return torch.lerp(means[right - 1], means[right], ((order - low) / (high - low)).clamp(0, 1))


@functools.cache
def _means_and_orders() -> tuple[DeviceConstant, DeviceConstant]:
    means = torch.linspace(0, _LARGEST_MEAN, _MEANS, dtype=torch.float64)
    return DeviceConstant(means), DeviceConstant(projected_order(means))


def _as_von_mises(angle: Tensor, order: Tensor) -> Tensor:
    """Where a von Mises law has the quantile that a projected normal law has at an angle.

    Args:
        angle: (B, C, H, W) from the mean, in [-pi, pi].
        order: (B, C, 1, 1) length of the mean vector of both, at most `terminal.LONGEST`.
    """
    table = _moved_distances().on(angle.device, angle.dtype)
    place = order[..., 0, 0] * ((_ORDERS - 1) / LONGEST)
    row = place.long().clamp(0, _ORDERS - 2)
    rows = torch.lerp(table[row], table[row + 1], (place - row).unsqueeze(-1))
    place = angle.abs().flatten(2) * ((_DISTANCES - 1) / math.pi)
    left = place.long().clamp(0, _DISTANCES - 2)
    moved = torch.lerp(rows.gather(2, left), rows.gather(2, left + 1), place - left)
    return torch.copysign(moved.view(angle.shape), angle)


@functools.cache
def _moved_distances() -> DeviceConstant:
    """(_ORDERS, _DISTANCES): by mean vector 0..LONGEST and distance 0..pi."""
    orders = torch.linspace(0, LONGEST, _ORDERS, dtype=torch.float64)
    distance = torch.linspace(0, math.pi, _DISTANCES, dtype=torch.float64)
    density = projected_density(distance, _mean_of_order(orders).unsqueeze(1))
    cells = (density[:, 1:] + density[:, :-1]).cumsum(1)
    mass = torch.cat([torch.zeros_like(cells[:, :1]), cells / cells[:, -1:]], dim=1)
    return DeviceConstant(von_mises_quantile((1 + mass) / 2, bessel_ratio_inverse(orders)))
