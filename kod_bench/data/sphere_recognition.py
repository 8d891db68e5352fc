"""On which grid maps of the sphere are, from their shape and, where several fit, their values.

What the values of all maps of one shape say together:

- a last meridian that equals the first, to a thousandth of what neighbours differ by, is repeated;
- a first or last row is a pole if it is constant and its neighbour is not;
- of degrees below H, a map has nothing left over on the grid that it was made on. Rows of the
  other grid misplace its poles, and leave some. Where that is less than half on one of two grids,
  the maps are on that one.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kod_bench.data.errors import DataError
from kod_bench.data.files import SkippedImageError
from kod_bench.data.sphere_grids import projection_error
from kod_bench.data.sphere_options import SphereGridName

FloatArray = NDArray[np.float64]
Shape = tuple[int, int]

#: Longitudes over latitudes that a map of the whole sphere may have. Half a sphere has 1 or 4.
NARROWEST, WIDEST = 1.0, 2.5

_EQUAL = 1e-3
_LEVELS = 8  # that a neighbour of a pole must have: fewer may be the rounding of a smooth map
_MOST_ROWS = 256  # of maps that are projected: the cost grows with their fourth power
_MAPS = 64
_ORDERS = 32
#: H of cells of 10, 5, 4, 3, 2.5, 2, 1, 0.5, 0.25, 0.2, 0.1 and 0.05 degrees; no usual Gaussian
#: grid has as many rows and twice as many longitudes.
_ROUND = (18, 36, 45, 60, 72, 90, 180, 360, 720, 900, 1800, 3600)


@dataclass(frozen=True)
class Layout:
    """How a map's array lies on the sphere.

    Attributes:
        grid: where its rows are.
        repeated: whether the last column is the first one again.
        why: in a few words, what said so.
    """

    grid: SphereGridName
    repeated: bool
    why: str


@dataclass
class _Pole:
    """What end rows say: they are a pole if one map at least shows it, and none the opposite."""

    seen: bool = False
    refuted: bool = False

    def add(self, row: FloatArray, neighbour: FloatArray) -> None:
        if np.ptp(row) > _EQUAL * np.ptp(neighbour):
            self.refuted = True
        elif len(np.unique(neighbour)) >= _LEVELS:
            self.seen = True

    @property
    def found(self) -> bool:
        return self.seen and not self.refuted


@dataclass
class Evidence:
    """What maps of one shape say about their grid.

    Attributes:
        shape: (latitudes, longitudes) of the arrays.
    """

    shape: Shape
    _north: _Pole = field(default_factory=_Pole)
    _south: _Pole = field(default_factory=_Pole)
    _repeating: bool = False
    _not_repeating: bool = False
    _projected: int = 0
    _errors: dict[SphereGridName, float] = field(
        default_factory=lambda: {"gauss-legendre": 0.0, "cells": 0.0}
    )
    _energy: float = 0.0

    def add(self, values: FloatArray) -> None:
        """Look at one map, north first. One of a single value says nothing."""
        if np.ptp(values) == 0:
            return
        step = np.sqrt(np.square(np.diff(values, axis=1)).mean())
        if step > 0:  # else it is zonal, and every meridian repeats the first
            ends = np.sqrt(np.square(values[:, -1] - values[:, 0]).mean())
            self._repeating |= bool(ends <= _EQUAL * step)
            self._not_repeating |= bool(ends > _EQUAL * step)
        self._north.add(values[0], values[1])
        self._south.add(values[-1], values[-2])
        rows, columns = self.shape
        if 2 * rows <= columns <= 2 * rows + 1 and rows <= _MOST_ROWS and self._projected < _MAPS:
            self._projected += 1
            self._project(values[:, : 2 * rows])

    def _project(self, values: FloatArray) -> None:
        rows = len(values)
        waves = np.fft.rfft(values, axis=1)
        self._energy += float(np.square(values - values.mean()).sum()) * values.shape[1]
        for order in np.unique(np.geomspace(1, rows - 1, _ORDERS).astype(int)):
            for grid in self._errors:
                self._errors[grid] += projection_error(waves[None, :, order], grid, int(order))

    def conclude(self, said: SphereGridName | None) -> Layout:
        """The layout of all these maps.

        Args:
            said: the grid, by the user.

        Raises:
            SkippedImageError: no grid has such a shape, as far as it can be told.
            DataError: several grids have, and the values do not tell.
        """
        rows, columns = self.shape
        repeated = self._repeating and not self._not_repeating
        if not self._repeating and not self._not_repeating:  # all zonal: by shape
            repeated = columns not in _widths(rows) and columns - 1 in _widths(rows)
        if said is not None:
            return Layout(said, repeated, "as said")
        grid, why = self._recognise(columns - repeated)
        return Layout(grid, repeated, why)

    def _recognise(self, columns: int) -> tuple[SphereGridName, str]:
        rows = self.shape[0]
        north, south = self._north.found, self._south.found
        if north and south:
            if columns == 2 * rows and rows in _ROUND:  # cells may end in rows of one value, too
                raise self._undecided("poles", "cells")
            return "poles", "both end rows are poles"
        if columns == 2 * (rows - 1):
            return "poles", "by its shape"
        if (north and columns in (rows, 2 * rows)) or (south and columns == 2 * rows - 1):
            return (
                ("driscoll-healy", "the first row is a pole")
                if north
                else (
                    "mcewen-wiaux",
                    "the last row is a pole",
                )
            )
        if columns in (rows, 2 * rows - 1, 2 * rows) and (north or south):
            raise DataError(
                f"maps {self._shown} have a pole in their {'first' if north else 'last'} row "
                "alone, as no grid from north to south has; say sphere.flip: latitude, or "
                "sphere.grid"
            )
        if columns == 2 * rows - 1:
            if self._south.refuted:
                return "gauss-legendre", "by its shape; the last row is no pole"
            raise self._undecided("gauss-legendre", "mcewen-wiaux")
        if columns == 2 * rows:
            return self._gauss_legendre_or_cells()
        raise SkippedImageError(
            f"shape {self._shown} is that of no grid; name it by sphere.grid if it is a global map"
        )

    def _gauss_legendre_or_cells(self) -> tuple[SphereGridName, str]:
        one, two = self._errors["gauss-legendre"], self._errors["cells"]
        if max(one, two) > 1e-24 * self._energy:  # else both are rounding
            if 2 * one < two:
                return "gauss-legendre", "the values are band-limited there"
            if 2 * two < one:
                return "cells", "the values are band-limited there"
        if self.shape[0] in _ROUND:
            return "cells", f"of {180 / self.shape[0]:g} degrees"
        raise self._undecided("gauss-legendre", "cells")

    def _undecided(self, *grids: SphereGridName) -> DataError:
        return DataError(
            f"maps {self._shown} may be on the grid {' or '.join(grids)}, and their values do not "
            f"tell; say sphere.grid: {grids[0]}, or {' or '.join(grids[1:])}"
        )

    @property
    def _shown(self) -> str:
        return f"{self.shape[0]}x{self.shape[1]}"


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse what no global map is.

    Raises:
        SkippedImageError: saying what is allowed.
    """
    rows, columns = shape
    if (columns + 1) / rows >= NARROWEST and columns <= WIDEST * rows + 1:
        return
    guess = ""
    if columns < rows:
        guess = "longitude by latitude? "
    elif math.isclose(columns, 4 * rows, rel_tol=0.1):
        guess = "one hemisphere? "
    elif rows == 12:
        guess = "HEALPix? "
    raise SkippedImageError(
        f"shape {shape}; {guess}needs a global map, (latitudes, longitudes), with {NARROWEST:g} to "
        f"{WIDEST:g} times as many longitudes as latitudes"
    )


def _widths(rows: int) -> tuple[int, ...]:
    return rows, 2 * (rows - 1), 2 * rows - 1, 2 * rows
