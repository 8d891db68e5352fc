"""What stored images stand for: intensities in bytes, or angles in radians; and [-1, 1] for both.

On a disk an image is uint8 intensities, or float32 angles in [-pi, pi). Processes and networks see
float32 in [-1, 1]: an intensity x / 127.5 - 1, or an angle as theta / pi, which lies in [-1, 1)
and goes round there.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from kod_bench.diffusion.circle import wrap


def to_unit(stored: Tensor) -> Tensor:
    """Stored images as float32 in [-1, 1]; angles as theta / pi in [-1, 1).

    Raises:
        ValueError: if they are neither uint8 nor float32.
    """
    if stored.dtype == torch.uint8:
        return stored.float() / 127.5 - 1.0
    if stored.dtype == torch.float32:
        return stored / math.pi
    raise ValueError(f"images must be uint8 intensities or float32 angles, got {stored.dtype}")


def to_stored(images: Tensor, values: Literal["intensities", "angles"]) -> Tensor:
    """Images in [-1, 1] as they are stored, on the CPU: bytes, rounded, or wrapped radians.

    Raises:
        FloatingPointError: if there are values that are not finite.
    """
    if not images.isfinite().all():
        raise FloatingPointError("the samples are not finite; the model has diverged")
    if values == "angles":
        return wrap(images.float() * math.pi).cpu()
    return ((images + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()
