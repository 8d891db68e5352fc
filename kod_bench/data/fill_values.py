"""Numbers that stand for what is missing in a map: found where nobody named them, and replaced."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kod_bench.data.files import SkippedImageError

FloatArray = NDArray[np.float64]

#: healpy's UNSEEN; netCDF's, CMIP's, GRIB's, GEOS's and Ferret's; NumPy's for masked arrays; the
#: ends of integer types; and the nines that people write.
_CUSTOMARY = np.array(
    [
        *(-1.6375e30, 9.969209968386869e36, 1e20, 9.999e20, 1e15, -1e34, 1e35, 1e36, -1e30, 1e30),
        *(999_999, -32_767, -32_768, -2_147_483_647, -2_147_483_648, -(2**63), -(2**63) + 2),
        *(-999, -9_999, 9_999, -99_999, 99_999, -999_999),
    ]
)
_SAME = 1e-6  # relative: of a number that went through float32
_GAP = 0.01  # of what the other values span; a height of -9,999 m has neighbours
_GAP_OF_ANY = 1000.0  # likewise, for a number that nobody knows but that occurs more than once
_MOST = 0.5  # of a map that may be missing


def find_fill(values: FloatArray) -> float | None:
    """The lowest or highest value of a map, where it looks like no value; None where none does.

    A customary number does that stands apart from the rest, and any number that is repeated and
    stands apart by a thousand times what the rest spans.
    """
    for extreme in (float(values.min()), float(values.max())):
        others = values[values != extreme]
        customary = bool(np.isclose(extreme, _CUSTOMARY, rtol=_SAME, atol=0).any())
        if not others.size:
            if customary:
                return extreme
            continue
        low, high = float(others.min()), float(others.max())
        spread, gap = high - low, max(low - extreme, extreme - high)
        repeated = others.size <= values.size - 2
        if customary and gap > _GAP * spread:
            return extreme
        if repeated and spread > 0 and gap > _GAP_OF_ANY * spread:
            return extreme
    return None


def is_missing(values: FloatArray, fill: float | Literal["nan"]) -> NDArray[np.bool_]:
    """Where a map has the fill value."""
    if fill == "nan":
        return np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isclose(values, fill, rtol=_SAME, atol=0))


def fill_with_mean(values: FloatArray, missing: NDArray[np.bool_]) -> FloatArray:
    """The map with its mean, by area, in place of what is missing.

    Raises:
        SkippedImageError: more than half of it is missing.
    """
    share = missing.mean()
    if share > _MOST:
        raise SkippedImageError(f"more than half of it is missing: {share:.0%}")
    if not share:
        return values
    rows = len(values)
    area = np.sin((np.arange(rows) + 0.5) * math.pi / rows)[:, None] * ~missing
    return np.where(missing, (np.where(missing, 0, values) * area).sum() / area.sum(), values)
