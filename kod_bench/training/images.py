"""Training images, drawn in shuffled epochs and changed at random as the data set allows."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kod_bench.diffusion import to_unit
from kod_bench.diffusion.circle import wrap

#: Larger sets stay on the host, memory-mapped as they come, and are moved batch by batch.
RESIDENT_BYTES = 2 * 2**30

_Change = Callable[[Tensor, torch.Generator], Tensor]


class ShuffledImages:
    """Draws images without replacement, epoch after epoch.

    No per-image work in Python: a batch is one gather and a few tensor operations.

    Args:
        images: (N, C, H, W), uint8 intensities or float32 angles in radians. Up to
            `resident_bytes` they are moved to the generator's device and kept there as they are;
            beyond, they stay where they are and each batch is moved.
        generator: decides the order and the changes.
        augment: what may happen to an image each time it is drawn, each with probability 1/2 and
            in this order: "horizontal-flip" (left to right), "vertical-flip" (top to bottom); and
            "rotate", by 0 to 3 quarters of a circle with equal probability. Of angles, a flip with
            " direction", " compass" or " orientation" after its name mirrors each angle, too; see
            `kod_bench.data.angle_options.AngleKind`.
        resident_bytes: the limit.

    Attributes:
        drawn: images drawn so far, repetitions included.

    Raises:
        ValueError: if there are no images, they are neither, a change is unknown or not for these
            values, or images that are not square are to be rotated.
    """

    def __init__(
        self,
        images: Tensor,
        generator: torch.Generator,
        augment: Sequence[str] = (),
        resident_bytes: int = RESIDENT_BYTES,
    ) -> None:
        if images.dtype not in (torch.uint8, torch.float32) or images.ndim != 4 or not len(images):
            raise ValueError(
                "training images must be a non-empty uint8 or float32 tensor (N, C, H, W), got "
                f"{images.dtype} {tuple(images.shape)}"
            )
        known = _CHANGES if images.dtype == torch.uint8 else _CHANGES | _CHANGES_OF_ANGLES
        if unknown := set(augment) - set(known):
            raise ValueError(f"unknown augmentation {unknown}; known: {', '.join(known)}")
        if "rotate" in augment and images.shape[2] != images.shape[3]:
            raise ValueError(f"rotate needs square images, got {tuple(images.shape)}")
        is_small = images.nbytes <= resident_bytes
        self._images = images.to(generator.device) if is_small else images
        self._changes = [known[name] for name in known if name in augment]
        self._generator = generator
        self.drawn = 0
        self._order = torch.empty(0, dtype=torch.int64, device=generator.device)

    @property
    def order(self) -> Tensor:
        """Numbers of the images to come before a new epoch is shuffled, (n,) int64."""
        return self._order

    @order.setter
    def order(self, order: Tensor) -> None:
        if order.dtype != torch.int64 or order.ndim != 1:
            raise TypeError(f"an order of images is (n,) int64, got {order.dtype} {order.ndim}-d")
        if len(order) and not 0 <= int(order.min()) <= int(order.max()) < len(self._images):
            raise TypeError(f"an order of images beyond the {len(self._images)} there are")
        self._order = order.to(self._generator.device)

    def __call__(self, count: int) -> Tensor:
        """Draw `count` images: (count, C, H, W) float32 in [-1, 1]; of angles, theta / pi."""
        while len(self._order) < count:
            epoch = torch.randperm(
                len(self._images), generator=self._generator, device=self._generator.device
            )
            self._order = torch.cat([self._order, epoch])
        self.drawn += count
        chosen, self._order = self._order[:count], self._order[count:]
        batch = self._images[chosen.to(self._images.device)].to(self._generator.device)
        for change in self._changes:
            batch = change(batch, self._generator)
        return to_unit(batch)


def _flip_columns(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.where(_choices(2, images, generator) == 1, images.flip(3), images)


def _flip_rows(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.where(_choices(2, images, generator) == 1, images.flip(2), images)


def _rotate(images: Tensor, generator: torch.Generator) -> Tensor:
    quarters = _choices(4, images, generator)
    turned = torch.where(quarters % 2 == 1, images.rot90(1, (2, 3)), images)
    return torch.where(quarters >= 2, turned.flip(2, 3), turned)


def _choices(number: int, images: Tensor, generator: torch.Generator) -> Tensor:
    """One of 0..number-1 for each image, (N, 1, 1, 1)."""
    return torch.randint(
        number, (len(images), 1, 1, 1), generator=generator, device=generator.device
    )


def _mirroring(axis: int, about: float) -> _Change:
    """A flip along an axis with probability 1/2, which makes `about` - theta of each theta."""

    def change(angles: Tensor, generator: torch.Generator) -> Tensor:
        mirrored = wrap(about - angles.flip(axis))
        return torch.where(_choices(2, angles, generator) == 1, mirrored, angles)

    return change


_CHANGES: dict[str, _Change] = {
    "horizontal-flip": _flip_columns,
    "vertical-flip": _flip_rows,
    "rotate": _rotate,
}
#: Mirrored left to right, a direction theta from the axis of the columns becomes pi - theta, one
#: from that of the rows -theta; top to bottom, the other way about. Twice an orientation: both
#: times -theta.
_CHANGES_OF_ANGLES: dict[str, _Change] = {
    "horizontal-flip direction": _mirroring(3, math.pi),
    "vertical-flip direction": _mirroring(2, 0.0),
    "horizontal-flip compass": _mirroring(3, 0.0),
    "vertical-flip compass": _mirroring(2, math.pi),
    "horizontal-flip orientation": _mirroring(3, 0.0),
    "vertical-flip orientation": _mirroring(2, 0.0),
}
