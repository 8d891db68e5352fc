"""How coupled phases move: the mean fields they feel, their drift and its derivative."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from kod_bench.diffusion.constants import DeviceConstant

Neighbourhood = Literal["box", "gaussian"]


class MeanField(Protocol):
    """The mean of e^{i theta} that each phase feels.

    Symmetric: phase i weighs in the field at j what j weighs in the field at i.
    """

    def __call__(self, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
        """Its real and imaginary part, broadcastable to the (B, C, H, W) arguments."""
        ...

    def of(self, planes: Tensor) -> tuple[Tensor, Callable[[], object]]:
        """The same for many means in few calls.

        Args:
            planes: (N, B, C, H, W), contiguous.

        Returns:
            A tensor that is broadcastable to the planes, and a function that writes into it the
            means of what is in the planes when it is called.
        """
        ...


class GlobalMeanField:
    """Mean of e^{i theta} over all of C, H, W, for each sample."""

    def __call__(self, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
        """Means of two (B, C, H, W) tensors: two (B, 1, 1, 1) tensors."""
        return cosine.mean((1, 2, 3), keepdim=True), sine.mean((1, 2, 3), keepdim=True)

    def of(self, planes: Tensor) -> tuple[Tensor, Callable[[], object]]:
        """See `MeanField`; (N, B, 1, 1, 1)."""
        means = planes.new_empty(*planes.shape[:2], 1, 1, 1)
        return means, lambda: torch.mean(planes, (2, 3, 4), keepdim=True, out=means)


global_mean_field = GlobalMeanField()


class LocalMeanField:
    """Weighted mean of e^{i theta} around each pixel, itself included.

    Over the (2R+1)^2 box, or with a Gaussian weight of standard deviation R. Channels are apart and
    the image is a torus; a neighbourhood wider than the image wraps and counts pixels as often as
    it covers them. Both are separable, so the mean is two small matrix products, with no padding
    and at a cost that does not depend on R.

    Args:
        height: H.
        width: W.
        radius: R >= 0, in pixels.
        neighbourhood: "box" or "gaussian".
    """

    def __init__(
        self, height: int, width: int, radius: int, neighbourhood: Neighbourhood = "box"
    ) -> None:
        matrix = box_matrix if neighbourhood == "box" else gaussian_matrix
        self._rows = DeviceConstant(matrix(height, radius))
        self._columns = DeviceConstant(matrix(width, radius))

    def __call__(self, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
        """Means of two (B, C, H, W) tensors, of the same shape."""
        planes = torch.stack([cosine, sine])
        rows = self._rows.on(planes.device, planes.dtype)
        columns = self._columns.on(planes.device, planes.dtype)
        real, imaginary = rows @ (planes @ columns)
        return real, imaginary

    def of(self, planes: Tensor) -> tuple[Tensor, Callable[[], object]]:
        """See `MeanField`; of the planes' shape."""
        height, width = planes.shape[-2:]
        rows = self._rows.on(planes.device, planes.dtype)
        columns = self._columns.on(planes.device, planes.dtype)
        lines = planes.view(-1, width)
        across = torch.empty_like(lines)
        images = across.view(-1, height, width)
        means = torch.empty_like(images)
        each = rows.expand(len(images), -1, -1)

        def refresh() -> None:
            torch.mm(lines, columns, out=across)
            torch.bmm(each, images, out=means)

        return means.view(planes.shape), refresh


def box_matrix(size: int, radius: int) -> Tensor:
    """(size, size) symmetric circulant matrix that averages over 2R+1 neighbours on a ring."""
    return _ring_matrix(size, torch.ones(2 * radius + 1, dtype=torch.float64))


def gaussian_matrix(size: int, radius: int) -> Tensor:
    """The same with a Gaussian weight of standard deviation R, cut at six of them."""
    offsets = torch.arange(-6 * radius, 6 * radius + 1, dtype=torch.float64)
    return _ring_matrix(size, torch.exp(-0.5 * (offsets / max(radius, 1)).square()))


def _ring_matrix(size: int, weights: Tensor) -> Tensor:
    """Average with an odd number of weights, the middle one for the node itself."""
    reach = len(weights) // 2
    neighbours = (torch.arange(size).unsqueeze(1) + torch.arange(-reach, reach + 1)) % size
    share = (weights / weights.sum()).expand(size, -1)
    return torch.zeros(size, size, dtype=torch.float64).scatter_add(1, neighbours, share)


@dataclass(frozen=True)
class PhaseFlow:
    """The deterministic motion of the phases in one step, and its derivative.

    The mean field and the reference are the pull of one complex field ``field_i`` per phase; so a
    phase costs one sine and one cosine, whatever is asked of the flow.
    """

    cosine: Tensor
    """cos theta, (B, C, H, W)."""
    sine: Tensor
    real: float | Tensor
    """Real part of ``K zbar_i + K_ref e^{i psi_ref}``, broadcastable."""
    imaginary: float | Tensor
    coupling: float | Tensor
    """K, a number or (B, 1, 1, 1)."""
    mean_field: MeanField | None

    def drift(self) -> Tensor:
        """``Im(field_i e^{-i theta_i})``, in radians per step."""
        return self.imaginary * self.cosine - self.real * self.sine

    def slope(self) -> Tensor:
        """Diagonal of J with the field held fixed: ``-Re(field_i e^{-i theta_i})``."""
        return -(self.real * self.cosine + self.imaginary * self.sine)

    def pull_back(self, vector: Tensor) -> Tensor:
        """J^T v, with J the Jacobian of the drift and v of the state's shape.

        ``-Re(field_i e^{-i theta_i}) v_i + K Re(e^{-i theta_i} w_i)``, where w is the mean field of
        ``v_j e^{i theta_j}``: the second term is how the others feel phase i.
        """
        slope = self.slope()
        if self.mean_field is None:
            return slope * vector
        real, imaginary = self.mean_field(self.cosine * vector, self.sine * vector)
        return slope * vector + self.coupling * (self.cosine * real + self.sine * imaginary)


def phase_flow(
    state: Tensor,
    *,
    coupling: float | Tensor,
    reference: float | Tensor,
    reference_phase: float,
    mean_field: MeanField | None,
) -> PhaseFlow:
    """The flow at given phases; arguments as for `drift`."""
    cosine, sine = state.cos(), state.sin()
    real: float | Tensor = reference * math.cos(reference_phase)
    imaginary: float | Tensor = reference * math.sin(reference_phase)
    if mean_field is not None:
        mean_real, mean_imaginary = mean_field(cosine, sine)
        real, imaginary = real + coupling * mean_real, imaginary + coupling * mean_imaginary
    return PhaseFlow(cosine, sine, real, imaginary, coupling, mean_field)


def drift(
    state: Tensor,
    *,
    coupling: float | Tensor,
    reference: float | Tensor,
    reference_phase: float,
    mean_field: MeanField | None,
) -> Tensor:
    """Deterministic motion of the phases in one step; arXiv 2509.15328, forward process.

    ``K Im(zbar_i e^{-i theta_i}) + K_ref sin(psi_ref - theta_i)``, where zbar_i is the mean field
    at phase i; the first term equals ``K mean_j sin(theta_j - theta_i)`` over its neighbours.

    Args:
        state: theta, (B, C, H, W), in radians.
        coupling: K in rad per step, a number or (B, 1, 1, 1). Unused without a mean field.
        reference: K_ref, likewise.
        reference_phase: psi_ref, in radians.
        mean_field: None for uncoupled phases.

    Returns:
        (B, C, H, W), in radians per step.
    """
    return phase_flow(
        state,
        coupling=coupling,
        reference=reference,
        reference_phase=reference_phase,
        mean_field=mean_field,
    ).drift()
