"""Values of rows, in words and as plain numbers."""

from typing import Any

import numpy as np
import pandas as pd


def shown(value: Any) -> str:
    """A value of a row in words; numbers that a missing one has made floats are whole again."""
    if _is_missing(value):
        return "not recorded"
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def plain(value: Any) -> object:
    """A value as Python has it; None for a missing one."""
    if _is_missing(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def whole(value: Any) -> int | None:
    """A whole number; None for a missing one."""
    return None if value is None or pd.isna(value) else int(value)


def _is_missing(value: Any) -> bool:
    return value is None or (not isinstance(value, str) and bool(pd.isna(value)))
