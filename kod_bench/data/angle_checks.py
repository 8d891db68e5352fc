"""What numbers can be angles: the same rules for data sets and for samples of any tool."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kod_bench.data.angle_options import AngleUnit

#: Numbers beyond this, or over more than it, are no radians unless that is said: twice around.
_SUSPICIOUS = 4 * math.pi
#: Over more than so many radians nothing is an angle.
_MOST = 1e3


def check_angles(values: NDArray[Any], unit: AngleUnit | None, mend: str) -> tuple[float, float]:
    """The lowest and the highest number of a field that can be one of angles.

    Constants are none of its concern: `is_one_angle`.

    Args:
        values: (H, W) as they are stored.
        unit: of them; None is radians, unless they look like degrees.
        mend: what to do where they do.

    Raises:
        ValueError: They are no angles; a message to stand behind the field's name.
    """
    field = np.asarray(values, np.float64)
    finite = np.isfinite(field)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ValueError(
            f"is {field[row, column]:g} at row {row}, column {column}; every site needs an angle"
        )
    low, high = float(field.min()), float(field.max())
    if high - low > _MOST * (180 / math.pi if unit == "degrees" else 1):
        raise ValueError(f"holds values from {low:g} to {high:g}: no angles, whatever their unit")
    if unit is None and max(high - low, high, -low) > _SUSPICIOUS:
        raise ValueError(
            f"holds values from {low:g} to {high:g}, more than twice around in radians; {mend}"
        )
    return low, high


def is_one_angle(
    values: NDArray[Any], unit: AngleUnit | None = None, angle: float | None = None
) -> bool:
    """Whether all numbers are one angle, whole turns apart or not.

    Args:
        values: of any shape, as they are stored: how far their type's rounding can bring one angle
            apart depends on it.
        unit: of them; None is radians.
        angle: the one, in that unit; None for the first of them.
    """
    numbers = np.asarray(values, np.float64)
    if not np.isfinite(numbers).all():
        return False
    turn = 360.0 if unit == "degrees" else 2 * math.pi
    apart = numbers - (numbers.flat[0] if angle is None else angle)
    apart = np.abs(apart - turn * np.rint(apart / turn))
    # Two roundings each: of a number, and of the turns in it. Below the second term fields are
    # equal as they are kept, in single precision.
    own = np.finfo(values.dtype if values.dtype.kind == "f" else np.float64).eps
    least = max(own * np.abs(numbers).max(), np.finfo(np.float32).eps * turn / 2)
    return bool(apart.max() <= 2 * least)


def intensity_notes(
    lowest: float, highest: float, unit: AngleUnit | None = None
) -> tuple[str, ...]:
    """A warning where all fields together hold what images do; none to those who say radians.

    Gray levels, the channels of a colour as (3, H, W), and parts of a turn are such numbers; so can
    angles be, and nobody can tell for certain.
    """
    if unit == "radians" or not 0 <= lowest <= highest <= 1:
        return ()
    turn = "from 0 to 360" if unit else "from -pi to pi or from 0 to 2 pi"
    return (
        f"all values are from {lowest:g} to {highest:g} and look like intensities, or like parts "
        f"of a turn: {unit or 'radians'} go {turn}",
    )
