"""Pictures of a trial's own: the way from the prior to an image, and where the forward way ends.

States are drawn as they are, not as images where they are none. A phase has no gray: phases are
coloured on a cycle (light at -pi and pi, dark at 0, blue below and red above), which tells them
apart by lightness and, for the sign, by blue against red. Where the data are angles, these and
phases are coloured by their hue, as everywhere else, and their vortices marked at times when so
few of all plaquettes have one that marks do not hide the fields. Of several channels the first is
shown. Any other state is drawn as its decoded image, which clamps it to black and white.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from kod_bench.atomic import atomic_write
from kod_bench.data import Values
from kod_bench.diffusion import DiffusionProcess, circle, to_stored
from kod_bench.evaluation.colour_wheel import draw_fields, field_scale

STATES = 8  # of a strip, from the prior to the image
SHOWN = 6  # samples of a strip
KEPT = 16  # samples whose order parameter is followed
ENDS = 36  # states of each grid of `write_forward_end`

_CELL = 64  # pixels of a side of a picture in a strip, about; fields of angles are larger
_GAP = 4
_TITLE = 20
_MILLISECONDS = 250  # per frame of the film
_REST = 2000  # of its last

# Red, green and blue at -pi, -pi/2, 0, pi/2, pi.
_CYCLE = np.array(
    [[226, 217, 226], [88, 130, 196], [40, 16, 60], [190, 90, 70], [226, 217, 226]], np.float64
)


@dataclass
class Trajectory:
    """Some states on the way back, of the first samples.

    Attributes:
        process: whose states they are.
        wanted: the steps t to keep, from T down to 0.
        states: t and the states there, in the order they were seen.
    """

    process: DiffusionProcess
    wanted: frozenset[int]
    states: list[tuple[int, Tensor]] = field(default_factory=list)

    @classmethod
    def along(
        cls, process: DiffusionProcess, evaluations: int, sampler: str | None, start: Tensor
    ) -> "Trajectory":
        """Follow a way with so many network evaluations, beginning at the states `start`."""
        way = (*dict.fromkeys(process.step_subset(evaluations, sampler)), 0)
        places = np.linspace(0, len(way) - 1, min(STATES, len(way))).round().astype(int)
        found = cls(process, frozenset(way[place] for place in places))
        found.see(process.steps, start)
        return found

    def see(self, step: int, state: Tensor) -> None:
        """Keep the first states, if this step is one of those wanted."""
        if step in self.wanted:
            self.states.append((step, state[:KEPT].detach().clone()))

    def order_parameters(self) -> list[float] | None:
        """Mean over images of |mean exp(i theta)| at each kept step; None if not phases."""
        if not self.process.periodic:
            return None
        return [float(circle.order_parameter(state).mean()) for _, state in self.states]


def forward_order(
    process: DiffusionProcess, images: Tensor, generator: torch.Generator
) -> tuple[Tensor, list[tuple[int, float]]]:
    """Noise images through all T steps.

    Args:
        process: to run.
        images: (B, C, H, W) in [-1, 1], on the generator's device.
        generator: source of all randomness.

    Returns:
        x_T, and for phases (t, mean order parameter) at about 40 steps.
    """
    state = process.encode(images)
    every = max(1, process.steps // 40)
    orders: list[tuple[int, float]] = []

    def note(step: int) -> None:
        if process.periodic and (step % every == 0 or step == process.steps):
            orders.append((step, float(circle.order_parameter(state).mean())))

    note(0)
    for step in range(1, process.steps + 1):
        state = process.forward_step(state, step, generator)
        note(step)
    return state, orders


def write_trajectory(strip: Path, film: Path, trajectory: Trajectory, values: Values) -> None:
    """Write the strip (a row per sample, time to the right) and the film (GIF) of a trajectory.

    Both end with the images that the samples have become.

    Raises:
        OSError: if they cannot be written.
    """
    process = trajectory.process
    width = process.shape[-1]
    scale = field_scale(width) if values == "angles" else max(1, round(_CELL / width))
    columns = [
        (f"t = {t}", _draw(process, state[:SHOWN], values, scale)) for t, state in trajectory.states
    ]
    images = process.decode(trajectory.states[-1][1][:SHOWN])
    if process.periodic and values != "angles":  # of angles the last states are the images
        columns.append(("image", _draw_images(images, values, scale)))
    side_x, side_y = scale * process.shape[2], scale * process.shape[1]
    count = len(images)
    size = (len(columns) * (side_x + _GAP) + _GAP, _TITLE + count * (side_y + _GAP) + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    for column, (title, pictures) in enumerate(columns):
        left = _GAP + column * (side_x + _GAP)
        draw.text((left, 2), title, fill="black", font=font)
        for row, picture in enumerate(pictures):
            sheet.paste(picture, (left, _TITLE + row * (side_y + _GAP)))
    with atomic_write(strip) as file:
        sheet.save(file, format="PNG")
    frames = [_row_of(pictures) for _, pictures in columns]
    with atomic_write(film) as file:
        frames[0].save(
            file,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=[_MILLISECONDS] * (len(frames) - 1) + [_REST],
            loop=0,
        )


def write_forward_end(
    path: Path, process: DiffusionProcess, ends: Tensor, prior: Tensor, values: Values
) -> None:
    """Write two grids side by side: where held-out images' chains end, and draws of the prior.

    Raises:
        OSError: if it cannot be written.
    """
    scale = max(1, round(48 / process.shape[-1]))
    grids = [_grid(_draw(process, states[:ENDS], values, scale)) for states in (ends, prior)]
    width = sum(grid.width for grid in grids) + 3 * _GAP * 2
    sheet = Image.new("RGB", (width, grids[0].height + _TITLE + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    left = 2 * _GAP
    for title, grid in zip(("forward end", "prior"), grids, strict=True):
        draw.text((left, 2), title, fill="black", font=font)
        sheet.paste(grid, (left, _TITLE))
        left += grid.width + 2 * _GAP
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")


def _draw(
    process: DiffusionProcess, state: Tensor, values: Values, scale: int
) -> list[Image.Image]:
    """States as pictures, enlarged by a whole factor."""
    if not process.periodic or values == "angles":
        return _draw_images(process.decode(state), values, scale)
    phases = circle.wrap(state[:, 0].float()).cpu().numpy()
    places = np.linspace(-math.pi, math.pi, len(_CYCLE))
    colours = [np.interp(phases, places, _CYCLE[:, channel]) for channel in range(3)]
    drawn = torch.from_numpy(np.stack(colours, axis=1).round().astype(np.uint8))
    return [_picture(each, scale) for each in drawn]


def _draw_images(images: Tensor, values: Values, scale: int) -> list[Image.Image]:
    """Images in [-1, 1] as they are, angles as hues, enlarged by a whole factor.

    What is not finite is middle gray, or angle 0, as it is only a picture.
    """
    finite = torch.nan_to_num(images.float(), nan=0.0)
    if values == "angles":
        return draw_fields(to_stored(finite, values), scale)
    drawn = ((finite + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()
    return [_picture(each, scale) for each in drawn]


def _picture(image: Tensor, scale: int) -> Image.Image:
    array = image.permute(1, 2, 0).squeeze(2).contiguous().numpy()
    size = (scale * array.shape[1], scale * array.shape[0])
    return Image.fromarray(array).resize(size, Image.Resampling.NEAREST).convert("RGB")


def _row_of(pictures: Sequence[Image.Image]) -> Image.Image:
    width, height = pictures[0].size
    row = Image.new("RGB", (len(pictures) * (width + _GAP) - _GAP, height), "white")
    for place, picture in enumerate(pictures):
        row.paste(picture, (place * (width + _GAP), 0))
    return row


def _grid(pictures: Sequence[Image.Image]) -> Image.Image:
    columns = math.ceil(math.sqrt(len(pictures)))
    width, height = (side + 2 for side in pictures[0].size)
    rows = math.ceil(len(pictures) / columns)
    grid = Image.new("RGB", (columns * width, rows * height), (128, 128, 128))
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        grid.paste(picture, (column * width + 1, row * height + 1))
    return grid
