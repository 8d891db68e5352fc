"""The cosine transform: images as modes that blur, each at its own rate."""

import math

import torch
from torch import Tensor

from kod_bench.diffusion.constants import DeviceConstant


def cosine_matrix(size: int) -> Tensor:
    """(n, n) float64 orthonormal DCT-II: row k holds sqrt(2 / n) cos(pi k (i + 1/2) / n).

    Row 0 is sqrt(1 / n): the matrix times its transpose is the identity.
    """
    place = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * place.unsqueeze(1) * (place + 0.5))
    matrix *= math.sqrt(2 / size)
    matrix[0] = math.sqrt(1 / size)
    return matrix


class CosineTransform:
    """DCT-II of each channel, and the rates at which heat takes modes away.

    A point becomes a Gaussian of standard deviation b pixels, with insulated edges, when mode
    (n, m) is multiplied by exp(-b^2 (rate_n + rate_m) / 2), rate_n = (pi n / size)^2.

    Args:
        height: H.
        width: W.

    Attributes:
        rates: (H,) and (W,) float64.
    """

    def __init__(self, height: int, width: int) -> None:
        sizes = (height, width)
        self.rates = [(math.pi * torch.arange(size).double() / size) ** 2 for size in sizes]
        self._matrices = [DeviceConstant(cosine_matrix(size)) for size in sizes]

    def modes(self, state: Tensor) -> Tensor:
        """Cosine coefficients, (B, C, H, W)."""
        rows, columns = (each.on(state.device, state.dtype) for each in self._matrices)
        return rows @ state @ columns.T

    def from_modes(self, modes: Tensor) -> Tensor:
        """Invert `modes`."""
        rows, columns = (each.on(modes.device, modes.dtype) for each in self._matrices)
        return rows.T @ modes @ columns
