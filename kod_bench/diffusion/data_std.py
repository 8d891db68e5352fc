"""The root mean square of training images, for processes that scale by it."""

import math

import torch

from kod_bench.diffusion.process import ImageSource

#: Images that are measured, and how many are looked at at once.
_MEASURED, _CHUNK = 1024, 256
#: Of images that are all but gray, so that nothing is divided by zero.
_LEAST = 1e-3


@torch.no_grad()
def measured_data_std(images: ImageSource) -> float:
    """Of 1024 training images, at least 0.001."""
    squares = [images(_CHUNK).double().square().mean().item() for _ in range(_MEASURED // _CHUNK)]
    return max(math.sqrt(sum(squares) / len(squares)), _LEAST)
