"""How images become states: as intensities, or as the angles that they hold divided by pi.

Images of angles are theta / pi in [-1, 1). A process on phases takes the angle as it is; one on
pixels, which knows no circle, reads it in one of two ways: "angle", the number itself, cut at pi;
or "circle", the point (cos theta, sin theta), two planes for each channel.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from kod_bench.diffusion.circle import wrap

#: Of a process on pixels.
Reading = Literal["intensity", "angle", "circle"]
#: Of a process on phases.
PhaseReading = Literal["intensity", "angle"]

#: What a process on pixels can make of angles; the first is the default.
PIXEL_ANGLE_READINGS: tuple[Reading, ...] = ("circle", "angle")


def to_circle(images: Tensor) -> Tensor:
    """Angles over pi, (B, C, H, W) -> (B, 2C, H, W): all cosines, then all sines."""
    angle = math.pi * images
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def from_circle(planes: Tensor) -> Tensor:
    """Directions of points, (B, 2C, H, W) as from `to_circle` -> (B, C, H, W) in [-1, 1)."""
    cosine, sine = planes.chunk(2, dim=1)
    return wrap(torch.atan2(sine, cosine)) / math.pi


def onto_disc(planes: Tensor) -> Tensor:
    """The nearest points of the unit disc; an average of points of the circle lies nowhere else."""
    cosine, sine = planes.chunk(2, dim=1)
    length = torch.hypot(cosine, sine).clamp_min(1)
    return planes / torch.cat([length, length], dim=1)


def without_default_reading(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as they were before images could be read in any other way."""
    return {
        name: value
        for name, value in parameters.items()
        if (name, value) != ("reading", "intensity")
    }
