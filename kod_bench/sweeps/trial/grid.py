"""A picture of many images: a grid, about square."""

import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from kod_bench.atomic import atomic_write
from kod_bench.evaluation import write_wheels

#: So many images are in a sweep's and in a trial's grid.
GRID_IMAGES = 64


def write_grid(path: Path, images: Tensor, min_side: int = 512) -> None:
    """Write images as a PNG grid, about square, enlarged by whole factors to `min_side` or more.

    Angles (float32, radians) are written as colours, with their vortices.
    """
    if images.dtype == torch.float32:
        write_wheels(path, images)
        return
    from torchvision.utils import make_grid  # seconds, which no process should start with

    height, width = images.shape[-2:]
    columns = max(1, math.ceil(math.sqrt(len(images) * height / width)))
    scale = max(1, math.ceil(min_side / (columns * images.shape[-1])))
    enlarged = images.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    grid = make_grid(enlarged, nrow=columns, padding=2 * scale, pad_value=128)
    with atomic_write(path) as file:
        Image.fromarray(grid.permute(1, 2, 0).numpy()).save(file, format="PNG")
