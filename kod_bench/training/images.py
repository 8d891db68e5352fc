"""Training images, resident on the device and drawn in shuffled epochs."""

import torch
from torch import Tensor


class ShuffledImages:
    """Draws images without replacement, epoch after epoch.

    Args:
        images: (N, C, H, W) uint8. Moved to the generator's device and kept there as bytes: the
            loop does no per-image work in Python.
        generator: decides the order.

    Attributes:
        drawn: images drawn so far, repetitions included.

    Raises:
        ValueError: if there are no images or they are not uint8.
    """

    def __init__(self, images: Tensor, generator: torch.Generator) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
            raise ValueError(
                "training images must be a non-empty uint8 tensor (N, C, H, W), got "
                f"{images.dtype} {tuple(images.shape)}"
            )
        self._images = images.to(generator.device)
        self._generator = generator
        self.drawn = 0
        self._order = torch.empty(0, dtype=torch.int64, device=generator.device)

    def __call__(self, count: int) -> Tensor:
        """Draw `count` images: (count, C, H, W) float32 in [-1, 1]."""
        while len(self._order) < count:
            epoch = torch.randperm(
                len(self._images), generator=self._generator, device=self._generator.device
            )
            self._order = torch.cat([self._order, epoch])
        self.drawn += count
        chosen, self._order = self._order[:count], self._order[count:]
        return self._images[chosen].float() / 127.5 - 1.0
