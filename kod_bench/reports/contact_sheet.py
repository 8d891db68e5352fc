"""Training and test images of a data set side by side, to be looked at before training."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from kod_bench.atomic import atomic_write
from kod_bench.evaluation.colour_wheel import LEGEND_HEIGHT, draw_field, field_scale, legend

IMAGES = 100  # on each side; fewer fields of angles, whose vortices must be seen
_SIDE = 800  # pixels of each side, about
_GAP = 16
_TITLE = 28


def write_dataset_sheet(path: Path, title: str, sides: Sequence[tuple[str, Tensor]]) -> None:
    """Write a PNG with the first images of each side of a data set, enlarged by whole factors.

    Args:
        path: Where to.
        title: Above everything.
        sides: Label and images, (N, C, H, W) uint8, or float32 angles, which are shown as hues with
            their vortices and the wheel; at most the first `IMAGES` are shown.

    Raises:
        OSError: it cannot be written.
    """
    most = _most(sides[0][1])
    grids = [_grid(images[:most]) for _, images in sides]
    width = _GAP + sum(grid.width + _GAP for grid in grids)
    of_angles = sides[0][1].dtype == torch.float32
    bottom = 2 * _TITLE + max(grid.height for grid in grids) + 2 * _GAP
    height = bottom + (LEGEND_HEIGHT + _GAP if of_angles else 0)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    draw.text((_GAP, _GAP // 2), title, fill="black", font=font)
    left = _GAP
    for (label, images), grid in zip(sides, grids, strict=True):
        shown = min(len(images), most)
        draw.text((left, _TITLE + 4), f"{label}: {shown} of {len(images)}", fill="black", font=font)
        sheet.paste(grid, (left, 2 * _TITLE + 4))
        left += grid.width + _GAP
    if of_angles:
        sheet.paste(legend(width - 2 * _GAP), (_GAP, bottom))
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")


def _most(images: Tensor) -> int:
    if images.dtype != torch.float32:
        return IMAGES
    across, down = (field_scale(side) * side for side in (images.shape[3], images.shape[2]))
    return min(IMAGES, max(1, _SIDE // across) * max(1, _SIDE // down))


def _grid(images: Tensor) -> Image.Image:
    height, width = images.shape[-2:]
    columns = max(1, math.ceil(math.sqrt(len(images) * height / width)))
    rows = math.ceil(len(images) / columns)
    factor = max(1, _SIDE // (columns * (width + 1)))
    across, down = factor * width + 2, factor * height + 2
    grid = Image.new("RGB", (columns * across, rows * down), (128, 128, 128))
    for index, image in enumerate(images):
        size = (factor * width, factor * height)
        if image.dtype == torch.float32:
            enlarged = draw_field(image, factor)
        else:
            array = image.permute(1, 2, 0).squeeze(2).contiguous().numpy()
            enlarged = Image.fromarray(array).resize(size, Image.Resampling.NEAREST)
        row, column = divmod(index, columns)
        grid.paste(enlarged.convert("RGB"), (column * across + 1, row * down + 1))
    return grid
