"""Fields of angles from any tool, in arrays of radians."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kod_bench.data.angle_checks import check_angles, intensity_notes, is_one_angle
from kod_bench.data.angle_fields import as_stored
from kod_bench.data.files import AngleField
from kod_bench.errors import UsageError
from kod_bench.evaluation import arrays
from kod_bench.evaluation.folders import ImageFolder


class AngleFolder(ImageFolder):
    """The `.npy` and `.npz` files below a folder, or one of them: (H, W) or (N, H, W) radians.

    Args:
        path: of the folder or file.

    Raises:
        UsageError: as from `ImageFolder`, or if a file is a picture or holds no angles.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lowest, self._highest = math.inf, -math.inf
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
            UsageError: if there are values that are not finite, or look like degrees; or if all
                fields are one constant.
        """
        # One constant field, or several, may be what a model that has collapsed draws: bad samples,
        # and the scores say so. One constant for all is an array that nothing was written to.
        if self._is_one_angle():
            raise UsageError(
                f"{self.path}: all {len(self)} fields are {self._values(0).flat[0]:g} everywhere: "
                "nothing was drawn, and there is nothing to score"
            )
        first = 0
        while first < len(self.items):
            last = first + 1
            while last < min(first + size, len(self)) and self._sizes[last] == self._sizes[first]:
                last += 1
            fields = [self._field(number) for number in range(first, last)]
            yield torch.from_numpy(np.stack(fields))[:, None]
            first = last

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know about the fields that have been read."""
        return intensity_notes(self._lowest, self._highest)

    def _open_array(self, file: Path) -> arrays.Images | None:
        return arrays.open_fields(file) if arrays.is_array(file) else None

    def _field(self, number: int) -> AngleField:
        values = self._values(number)
        try:
            low, high = check_angles(values, None, "wrap them, or turn degrees into radians")
        except ValueError as error:
            item = self.items[number]
            raise UsageError(f"{item.path}: field {(item.index or 0) + 1} {error}") from None
        self._lowest, self._highest = min(self._lowest, low), max(self._highest, high)
        return as_stored(values)

    def _is_one_angle(self) -> bool:
        angle = float(self._values(0).flat[0])
        return all(is_one_angle(self._values(each), angle=angle) for each in range(len(self)))

    def _values(self, number: int) -> NDArray[np.floating]:
        item = self.items[number]
        values = np.asarray(self._opened[item.path][0][item.index])
        return values.reshape(values.shape[:2])
