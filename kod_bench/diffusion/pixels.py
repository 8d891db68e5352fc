"""What diffusion processes on pixels share: how images become planes of numbers, and back."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kod_bench.diffusion.checks import check_choice
from kod_bench.diffusion.process import DiffusionProcess
from kod_bench.diffusion.readings import (
    Reading,
    from_circle,
    onto_disc,
    to_circle,
    without_default_reading,
)


class PixelDiffusion(DiffusionProcess):
    """A process whose states are made of planes of numbers in [-1, 1], which it reads of images.

    Args:
        shape: (C, H, W).
        steps: T.
        reading: what images hold and how it is read, see `kod_bench.diffusion.readings`:
            "intensity" or "angle", the number itself; or, on the "circle", the point (cos, sin) of
            each angle, two planes for each channel.

    Attributes:
        reading: as given.

    Raises:
        ValueError: if a parameter is out of range.
    """

    def __init__(self, shape: tuple[int, int, int], steps: int, reading: Reading) -> None:
        super().__init__(shape, steps)
        check_choice("reading", reading, Reading)
        self.reading: Reading = reading
        channels = self.state_channels(self.shape[0], {"reading": reading})
        self.state_shape = (channels, *self.shape[1:])

    @classmethod
    def identity_of(cls, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Without the reading of intensities."""
        return without_default_reading(parameters)

    @classmethod
    def state_channels(cls, channels: int, parameters: Mapping[str, Any]) -> int:
        """Twice as many on the circle."""
        return 2 * channels if parameters.get("reading") == "circle" else channels

    def planes_of(self, images: Tensor) -> Tensor:
        """What is read of images in [-1, 1], (B, C, H, W) -> (B, *state_shape)."""
        self.check_images(images)
        return to_circle(images) if self.reading == "circle" else images

    def image_from(self, planes: Tensor) -> Tensor:
        """Invert `planes_of`: clamped to [-1, 1]; on the circle, directions over pi."""
        return from_circle(planes) if self.reading == "circle" else planes.clamp(-1, 1)

    def nearest_planes(self, planes: Tensor) -> Tensor:
        """The nearest that an average over images can have: in [-1, 1], or in the unit disc."""
        return onto_disc(planes) if self.reading == "circle" else planes.clamp(-1, 1)
