"""Checks of what a person typed: each names the parameter, its value and what is allowed."""

import math
from collections.abc import Sequence
from typing import Any, get_args

from torch import Tensor


def check_count(name: str, value: int, low: int = 1) -> int:
    """Return a whole number.

    Raises:
        ValueError: if it is not an integer, or below `low`.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
    return value


def check_number(
    name: str,
    value: float,
    low: float,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return a finite number of an interval, which lacks the ends declared open.

    Raises:
        ValueError: if it is not a number, not finite, or outside.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number, got {value!r}")
    above = low < value if open_low else low <= value
    below = value < high if open_high else value <= high
    if not (math.isfinite(value) and above and below):
        left = "(" if open_low else "["
        right = ")" if open_high or math.isinf(high) else "]"
        end = "infinity" if math.isinf(high) else f"{high:g}"
        raise ValueError(f"{name} must lie in {left}{low:g}, {end}{right}, got {value}")
    return float(value)


def check_pair(name: str, value: Sequence[float]) -> tuple[float, float]:
    """Return two things as a tuple.

    Raises:
        ValueError: if there are more or fewer.
    """
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"{name} must be a pair (first, last), got {value!r}")
    return value[0], value[1]


def check_choice(name: str, value: str, allowed: Any) -> None:
    """Refuse what is not among the values of a `Literal`.

    Raises:
        ValueError: naming the parameter, its value and the choices.
    """
    if value not in get_args(allowed):
        raise ValueError(f"{name} must be one of {get_args(allowed)}, got {value!r}")


def check_batch_shape(batch: Tensor, shape: tuple[int, int, int]) -> None:
    """Refuse a batch of another shape than (B, *shape).

    Raises:
        ValueError: naming both shapes.
    """
    if batch.ndim != 4 or batch.shape[1:] != shape:
        raise ValueError(f"expected (B, *{shape}), got {tuple(batch.shape)}")


def check_name(kind: str, name: str | None, known: tuple[str, ...]) -> str:
    """Return a name of those that are known, the first for None.

    Raises:
        ValueError: naming all of them.
    """
    if name is None:
        return known[0]
    if name not in known:
        raise ValueError(f"no {kind} {name!r}; choose from {', '.join(known)}")
    return name
