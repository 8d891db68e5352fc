r"""A prior whose neighbouring phases agree as much as at the ends of forward chains.

Chains with local coupling end correlated: a phase says something about those next to it, which a
prior of independent pixels does not know.

A draw is the direction of a Gaussian field around a mean,

    theta = arg(m + w),    E|w|^2 = 1,

with one complex m for each channel and w complex, stationary on the torus of pixels and independent
of m. It turns with the circle, so that no phase is special where there is no mean. m follows from
the mean vector that is wanted: for such a phase (a projected normal law)

    |E e^{i theta}| = sqrt(pi) / 2 a e^{-a^2 / 2} (I0(a^2 / 2) + I1(a^2 / 2)),    a = |m|

The spectrum of w, between channels too, is found from that of the ends, of e^{i theta} less each
image's own mean. What arg makes of a spectrum is not known in closed form where there is a mean; so
it is drawn, compared and corrected by their ratio, a few times.
"""

import math

import torch
from torch import Tensor

from kod_bench.diffusion.circle import wrap
from kod_bench.diffusion.constants import DeviceConstant
from kod_bench.diffusion.terminal import EndStateLaw, mean_vectors

#: Corrections of the spectrum: each leaves about a tenth of what was wrong.
_CORRECTIONS = 4
#: Draws behind each correction.
_DRAWS = 256
#: Of the mean power of a spectrum, so that none of it is divided by nothing.
_LEAST_POWER = 1e-6
#: The table of |E e^{i theta}| over a, up to 0.997.
_LONGEST_MEAN, _NODES = 13.0, 4096


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
        self._power: Tensor | float = 0.0

    def add(self, state: Tensor) -> None:
        """See (B, C, H, W) phases."""
        self._vectors.append(mean_vectors(state))
        self._power = self._power + len(state) * residual_spectrum(state)

    @property
    def vectors(self) -> Tensor:
        """`mean_vectors` of all, (N, C, 2)."""
        return torch.cat(self._vectors)

    @property
    def spectrum(self) -> Tensor:
        """`residual_spectrum` of all."""
        spectrum: Tensor = self._power / sum(map(len, self._vectors))
        return spectrum


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
        length = torch.linalg.vector_norm(vectors, dim=-1)
        scale = _mean_of_length(length) / length.clamp_min(1e-12)
        mean = torch.view_as_complex((vectors * scale.unsqueeze(-1)).contiguous())
        real, imaginary = (
            torch.randn((count, *shape[2:], shape[1]), generator=generator, device=device)
            for _ in range(2)
        )
        # Each wave gets its channels' joint amplitude.
        parts = [part.on(device, torch.float32) for part in self.root]
        root = torch.complex(*parts)
        waves = torch.einsum("hwcd,bhwd->bchw", root, torch.complex(real, imaginary))
        pixels = shape[2] * shape[3]
        field = torch.fft.ifft2(waves) * math.sqrt(pixels / 2) + mean[..., None, None]
        return wrap(torch.atan2(field.imag, field.real))

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
    return gain @ spectrum @ gain.mH


def _root(spectrum: Tensor) -> Tensor:
    """Hermitian square root of each (C, C) matrix."""
    values, vectors = torch.linalg.eigh(spectrum)
    root: Tensor = (vectors * values.clamp_min(0).sqrt().unsqueeze(-2)) @ vectors.mH
    return root


def _mean_of_length(length: Tensor) -> Tensor:
    """|m| of the projected normal law whose |E e^{i theta}| is given, by table."""
    nodes, orders = (table.on(length.device, length.dtype) for table in _LENGTHS)
    right = torch.searchsorted(orders, length).clamp(1, _NODES - 1)
    low, high = orders[right - 1], orders[right]
    return torch.lerp(nodes[right - 1], nodes[right], ((length - low) / (high - low)).clamp(0, 1))


def projected_order(mean: Tensor) -> Tensor:
    """|E e^{i arg(m + w)}| for |m| >= 0 and a complex normal w of variance 1."""
    half = mean.square() / 2
    return math.sqrt(math.pi) / 2 * mean * (torch.special.i0e(half) + torch.special.i1e(half))


def _length_table() -> tuple[DeviceConstant, DeviceConstant]:
    nodes = torch.linspace(0, _LONGEST_MEAN, _NODES, dtype=torch.float64)
    return DeviceConstant(nodes), DeviceConstant(projected_order(nodes))


_LENGTHS = _length_table()
