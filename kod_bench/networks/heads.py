"""How a backbone reads and answers in a process's state space.

A head asks `build(inputs, outputs)` for the backbone that fits it: (B, inputs, H, W) planes and
(B,) steps -> (B, outputs, H, W) planes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kod_bench.diffusion import Grid

Build = Callable[[int, int], nn.Module]


class PlainNetwork(nn.Module):
    """States in, predictions out, as they are.

    On phases this is the `raw-angle` ablation: a phase of 0 and one of 2 pi are different inputs,
    and the network has to learn that they are one point of the circle.

    Args:
        channels: C, planes of the state.
        build: makes the backbone.
    """

    def __init__(self, channels: int, build: Build) -> None:
        super().__init__()
        self.unet = build(channels, channels)

    def forward(self, state: Tensor, step: Tensor) -> Tensor:
        """(B, C, H, W) states and (B,) steps -> (B, C, H, W) predictions."""
        out: Tensor = self.unet(state, step)
        return out


class GridNetwork(nn.Module):
    """A network on states that are coefficients, which acts on a grid (`kod_bench.diffusion.Grid`).

    Args:
        channels: C, planes of the state.
        build: makes the backbone.
        grid: where it acts, and the way there and back.
    """

    def __init__(self, channels: int, build: Build, grid: Grid) -> None:
        super().__init__()
        self.unet = build(channels, channels)
        self.to_grid: Tensor
        self.from_grid: Tensor
        self.size = (grid.height, grid.width)
        # Known from the process: no part of a checkpoint.
        self.register_buffer("to_grid", grid.to_grid.float(), persistent=False)
        self.register_buffer("from_grid", grid.from_grid.float(), persistent=False)

    def forward(self, state: Tensor, step: Tensor) -> Tensor:
        """(B, C, H, W) coefficients and (B,) steps -> (B, C, H, W) predictions."""
        # The transforms are exact, and stay so under autocast.
        with torch.autocast(state.device.type, enabled=False):
            planes = state.float().flatten(2) @ self.to_grid.mT
        planes = self.unet(planes.view(*state.shape[:2], *self.size), step)
        with torch.autocast(state.device.type, enabled=False):
            out: Tensor = planes.float().flatten(2) @ self.from_grid.mT
        return out.view(state.shape)


class PeriodicInputNetwork(nn.Module):
    """A network on phases that is exactly 2 pi periodic in each of them, its answer unprojected.

    A phase enters as the point (cos theta, sin theta) of the circle; the backbone's planes are the
    prediction.

    Args:
        channels: C, phases per pixel.
        build: makes the backbone.
    """

    def __init__(self, channels: int, build: Build) -> None:
        super().__init__()
        self.unet = build(2 * channels, channels)

    def forward(self, state: Tensor, step: Tensor) -> Tensor:
        """(B, C, H, W) phases and (B,) steps -> (B, C, H, W) predictions."""
        out: Tensor = self.unet(torch.cat([state.cos(), state.sin()], dim=1), step)
        return out


class PeriodicNetwork(nn.Module):
    """A network on phases that is exactly 2 pi periodic in each of them.

    A phase enters as the point (cos theta, sin theta) of the circle. The backbone answers with a
    plane vector (v_a, v_b) at that point, of which only the part tangent to the circle can move
    the phase (arXiv 2509.15328, its reverse sampler):

        prediction = -v_a sin(theta) + v_b cos(theta)

    Args:
        channels: C, phases per pixel.
        build: makes the backbone.
    """

    def __init__(self, channels: int, build: Build) -> None:
        super().__init__()
        self.unet = build(2 * channels, 2 * channels)

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
