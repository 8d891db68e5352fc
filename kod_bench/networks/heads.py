"""How a U-Net reads and answers in a process's state space."""

from typing import Any

import torch
from torch import Tensor, nn

from kod_bench.networks.unet import UNet


class PlainNetwork(nn.Module):
    """States in, predictions out, both ordinary real planes.

    Args:
        channels: C, planes of the state.
        unet: the remaining arguments of `UNet`.
    """

    def __init__(self, channels: int, **unet: Any) -> None:
        super().__init__()
        self.unet = UNet(channels, channels, **unet)

    def forward(self, state: Tensor, step: Tensor) -> Tensor:
        """(B, C, H, W) states and (B,) steps -> (B, C, H, W) predictions."""
        out: Tensor = self.unet(state, step)
        return out


class PeriodicNetwork(nn.Module):
    """A network on phases that is exactly 2 pi periodic in each of them.

    A phase enters as the point (cos theta, sin theta) of the circle. The U-Net answers with a
    plane vector (v_a, v_b) at that point, of which only the part tangent to the circle can move
    the phase (arXiv 2509.15328, its reverse sampler):

        prediction = -v_a sin(theta) + v_b cos(theta)

    Args:
        channels: C, phases per pixel.
        unet: the remaining arguments of `UNet`.
    """

    def __init__(self, channels: int, **unet: Any) -> None:
        super().__init__()
        self.unet = UNet(2 * channels, 2 * channels, **unet)

    def forward(self, state: Tensor, step: Tensor) -> Tensor:
        """(B, C, H, W) phases and (B,) steps -> (B, C, H, W) predictions."""
        cosine, sine = state.cos(), state.sin()
        vector = self.unet(torch.cat([cosine, sine], dim=1), step)
        return project_to_tangent(vector, cosine, sine)


def project_to_tangent(vector: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Component of a plane vector along the circle's tangent (-sin theta, cos theta).

    Args:
        vector: (B, 2C, H, W): all first components, then all second ones.
        cosine: (B, C, H, W) cos theta.
        sine: (B, C, H, W) sin theta.

    Returns:
        (B, C, H, W). A radial part, c (cos theta, sin theta), contributes nothing.
    """
    first, second = vector.chunk(2, dim=1)
    return second * cosine - first * sine
