"""Fields of angles from any tool, in arrays of radians."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kod_bench.data.angle_fields import as_stored
from kod_bench.errors import UsageError
from kod_bench.evaluation.folders import ImageFolder

#: Radians over more than this look like degrees: twice around.
_SUSPICIOUS = 4 * math.pi


class AngleFolder(ImageFolder):
    """The `.npy` and `.npz` files below a folder, or one of them: (H, W) or (N, H, W) radians.

    Args:
        path: of the folder or file.

    Raises:
        UsageError: as from `ImageFolder`, or if a file is a picture or holds no angles.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        for item in self.items:
            if item.index is None:
                raise UsageError(f"{item.path}: is a picture; angles are numbers in .npy or .npz")
        for file, (fields, _) in self._opened.items():
            if fields.ndim == 4 and fields.shape[-1] != 1:
                raise UsageError(f"{file}: has {fields.shape[-1]} channels; angles have one")
            if fields.dtype.kind != "f":
                raise UsageError(f"{file}: holds {fields.dtype}; angles are floating-point radians")

    def batches(self, size: int) -> Iterator[Tensor]:
        """(B, 1, H, W) float32 in [-pi, pi) of at most `size` fields, each of one size, in order.

        Raises:
            UsageError: if there are values that are not finite, or look like degrees.
        """
        first = 0
        while first < len(self.items):
            last = first + 1
            while last < min(first + size, len(self)) and self._sizes[last] == self._sizes[first]:
                last += 1
            fields = [self._field(number) for number in range(first, last)]
            yield torch.from_numpy(np.stack(fields))[:, None]
            first = last

    def _field(self, number: int) -> np.ndarray:
        item = self.items[number]
        values = np.asarray(self._opened[item.path][0][item.index], np.float64)
        values = values.reshape(values.shape[:2])
        if not np.isfinite(values).all():
            raise UsageError(f"{item.path}: field {number + 1} has values that are not finite")
        low, high = float(values.min()), float(values.max())
        if high - low > _SUSPICIOUS:
            raise UsageError(
                f"{item.path}: field {number + 1} goes from {low:g} to {high:g}, more than twice "
                "around in radians; wrap it, or turn degrees into radians"
            )
        return as_stored(values)
