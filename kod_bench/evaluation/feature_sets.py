"""Features of many images: in memory while they are few, else in a file that is read row by row."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kod_bench.evaluation.features import Features

#: Larger sets lie in a file: 50,000 images of 1,280 features are 488 MiB.
MOST_IN_MEMORY = 64 * 2**20  # bytes

#: Rows that are looked at at a time where a set need not be in memory at once.
ROWS = 4096

_Index = npt.NDArray[np.int64]
_BYTES = np.dtype(np.float64).itemsize


class SpooledFeatures:
    """(N, D) float64 in a file without a name, which is gone when nobody holds it any more.

    It gives rows as an array does, by slices and arrays of indices, and each time reads them: a
    mapped file would be counted as memory of this process, page by page.

    Args:
        count: N.
        width: D.
        folder: on whose disk it lies; None for where temporary files do.

    Raises:
        OSError: if there is no room.
    """

    def __init__(self, count: int, width: int, folder: Path | None = None) -> None:
        # Closed with the last of the sets that share it.
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._rows: _Index = np.arange(count)
        self._width = width

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return len(self._rows), self._width

    @property
    def ndim(self) -> int:
        """Two."""
        return 2

    def __len__(self) -> int:
        return len(self._rows)

    def __setitem__(self, where: slice, values: Features) -> None:
        first, last, _ = where.indices(len(self))
        if values.shape != (last - first, self._width):
            raise ValueError(f"{values.shape} are no rows {first} to {last} of {self.shape}")
        self._file.seek(first * self._width * _BYTES)
        self._file.write(np.ascontiguousarray(values, np.float64).data.cast("B"))
        self._file.flush()

    def __getitem__(self, index: slice | _Index) -> Features:
        rows = self._rows[index]
        found = np.empty((len(rows), self._width))
        ends = [*(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        first = 0
        for last in ends:  # rows that lie one after another, at once
            if last > first:
                self._read(found[first:last], int(rows[first]))
            first = last
        return found

    def subset(self, index: _Index) -> "SpooledFeatures":
        """Some of the rows, in the same file."""
        made: SpooledFeatures = object.__new__(SpooledFeatures)
        made._file, made._rows, made._width = self._file, self._rows[index], self._width
        return made

    def _read(self, room: Features, row: int) -> None:
        view, place = room.data.cast("B"), row * self._width * _BYTES
        while view:
            count = os.preadv(self._file.fileno(), [view], place)
            if not count:
                raise OSError("features that were spooled to a file have been cut short")
            view, place = view[count:], place + count


FeatureSet = Features | SpooledFeatures


def room_for(count: int, width: int, folder: Path | None = None) -> FeatureSet:
    """An empty set of a known size, in memory or in a file by how large it is."""
    if count * width * _BYTES <= MOST_IN_MEMORY:
        return np.empty((count, width))
    return SpooledFeatures(count, width, folder)


def subset(features: FeatureSet, index: _Index) -> FeatureSet:
    """Some of the rows, which stay where they are if they are in a file."""
    if isinstance(features, SpooledFeatures):
        return features.subset(index)
    found: Features = features[index]
    return found


def blocks(features: FeatureSet, rows: int = ROWS) -> Iterator[Features]:
    """All rows, in order, so many at a time."""
    for first in range(0, len(features), rows):
        yield features[first : first + rows]


def moments(features: FeatureSet) -> tuple[Features, Features]:
    """Mean (D,) and covariance (D, D).

    In memory by NumPy's own functions. From a file the same sums are added up block by block: in
    another order, so that they agree to rounding.
    """
    if not isinstance(features, SpooledFeatures):
        # Of one feature, NumPy's covariance has no dimensions.
        return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))
    count, width = features.shape
    mean = np.zeros(width)
    for block in blocks(features):
        mean += block.sum(axis=0)
    mean /= count
    scatter = np.zeros((width, width))
    for block in blocks(features):
        block -= mean
        scatter += block.T @ block
    return mean, scatter / (count - 1)
