"""Axes: the ways in which a search space says that a key has more than one value.

``{grid: [v, ...]}`` takes every value. The others are drawn from: ``{choice: [v, ...]}``,
``{uniform: [low, high]}``, ``{loguniform: [low, high]}`` (evenly in the logarithm) and
``{int: [low, high]}`` (both ends included; with `step`, every so manyth; with ``log: true``,
evenly in the logarithm). ``{value: v}`` is one value. Any of them may have a condition,
``when: {key: value}``, without which the key is left out.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kod_bench.errors import UsageError

Kind = Literal["grid", "choice", "uniform", "loguniform", "int", "value"]
#: Where a key is, from its model or from the top: ("steps",), ("training", "learning_rate").
Path = tuple[str, ...]

_LISTS = ("grid", "choice")
_RANGES = ("uniform", "loguniform", "int")
#: A mapping with one of these keys is an axis.
AXIS_KINDS: tuple[str, ...] = (*_LISTS, *_RANGES, "value")
_SAMPLED = ("choice", *_RANGES)
_FORMS = (
    "must be a value or {grid: [value, ...]}, {choice: [value, ...]}, {uniform: [low, high]}, "
    "{loguniform: [low, high]} or {int: [low, high]}"
)
#: Drawn numbers are rounded to this part of their range: they are read, typed and compared.
_RESOLUTION = 1e-4


@dataclass(frozen=True)
class Condition:
    """A key must have one of some values."""

    path: Path
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Axis:
    """What one key may be.

    Attributes:
        kind: see the module.
        values: of a grid, a choice or a value.
        low: of a range.
        high: of a range, included.
        step: between the whole numbers of an `int`.
        log: whether an `int` is drawn evenly in the logarithm.
        when: all must hold for the key to exist.
    """

    kind: Kind
    values: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    step: int = 1
    log: bool = False
    when: tuple[Condition, ...] = ()

    @property
    def is_sampled(self) -> bool:
        """Whether values are drawn."""
        return self.kind in _SAMPLED

    @property
    def extremes(self) -> tuple[Any, ...]:
        """Values that must be allowed for the axis to be: all of them, or the ends of a range."""
        return self.values or (self.low, self.high)

    def may_be(self, value: Any) -> bool:
        """Whether the axis has a value. Of ranges, only whole numbers can be told."""
        if self.kind == "int":
            inside = isinstance(value, int) and self.low <= value <= self.high
            return inside and (value - self.low) % self.step == 0
        return value in self.values

    @property
    def all_values(self) -> Sequence[Any]:
        """Every value that can be drawn; of a range of real numbers, as many as are told apart."""
        if self.kind == "int":
            return range(int(self.low), int(self.high) + 1, self.step)  # there may be very many
        if self.kind in ("uniform", "loguniform"):
            count = round(1 / _RESOLUTION)
            return tuple(dict.fromkeys(self.at(i / count) for i in range(count)))
        return self.values

    def at(self, position: float) -> Any:
        """The value at a position in [0, 1): evenly distributed positions draw from the axis."""
        if self.kind == "uniform":
            return self.rounded(self.low + position * (self.high - self.low))
        if self.kind == "loguniform":
            return self.rounded(self.low * (self.high / self.low) ** position)
        if self.kind == "int":
            return self._whole(position)
        return self.values[int(position * len(self.values))]

    def rounded(self, value: float) -> float | int:
        """The value of a range that is next to a number."""
        if self.kind == "uniform":
            digits = math.ceil(-math.log10((self.high - self.low) * _RESOLUTION))
            return self._inside(round(value, digits))
        if self.kind == "loguniform":
            digits = math.ceil(-math.log10(min(1.0, self.high / self.low - 1) * _RESOLUTION))
            return self._inside(float(f"{value:.{digits}g}"))
        low = int(self.low)
        most = (int(self.high) - low) // self.step
        return low + self.step * min(most, max(0, round((value - low) / self.step)))

    def _inside(self, value: float) -> float:
        return min(max(value, float(self.low)), float(self.high))

    def _whole(self, position: float) -> int:
        low, high = int(self.low), int(self.high)
        count = (high - low) // self.step + 1
        if not self.log:
            return low + self.step * int(position * count)
        # Each number n owns the logarithms from n - step / 2 to n + step / 2.
        first, last = low - self.step / 2, low + self.step * (count - 0.5)
        return int(self.rounded(first * (last / first) ** position))


def is_axis(value: Any) -> bool:
    """Whether a node of a search space is an axis rather than a section or a value."""
    return isinstance(value, Mapping) and any(kind in value for kind in AXIS_KINDS)


def parse_axis(where: str, node: Mapping[Any, Any]) -> Axis:
    """Read an axis.

    Args:
        where: names the key in messages.
        node: what stands there.

    Raises:
        UsageError: with the key's path and what is allowed.
    """
    kinds = [kind for kind in AXIS_KINDS if kind in node]
    if not kinds:
        raise UsageError(f"{where}: {_FORMS}")
    if len(kinds) > 1:
        raise UsageError(f"{where}: {' and '.join(kinds)} exclude each other; keep one")
    kind: Any = kinds[0]
    allowed = [kind, "when", *(("step", "log") if kind == "int" else ())]
    for key in node:
        if key not in allowed:
            raise UsageError(f"{where}.{key}: unknown key; beside {kind}: {', '.join(allowed[1:])}")
    when = _conditions(f"{where}.when", node.get("when", {}))
    given = node[kind]
    if kind == "value":
        return Axis(kind, (given,), when=when)
    if kind in _LISTS:
        return Axis(kind, _values(where, kind, given), when=when)
    low, high = _bounds(f"{where}.{kind}", kind, given)
    step, log = node.get("step", 1), node.get("log", False)
    if not _is_whole(step) or step < 1:
        raise UsageError(f"{where}.step: must be a whole number of at least 1, got {step!r}")
    if not isinstance(log, bool):
        raise UsageError(f"{where}.log: must be true or false, got {log!r}")
    if log and low < 1:
        raise UsageError(f"{where}.{kind}: must begin at 1 or above to be drawn with log: true")
    if log and step > low:
        raise UsageError(f"{where}.step: must be at most the lowest value {low} with log: true")
    return Axis(kind, low=low, high=high, step=step, log=log, when=when)


def _values(where: str, kind: str, given: Any) -> tuple[Any, ...]:
    if not isinstance(given, list) or not given:
        raise UsageError(f"{where}: {_FORMS}; a {kind} has at least one value")
    # Of equal numbers, 1 and 1.0 are trials of their own that do the same.
    numbers = [v + 0.0 if _is_number(v) and abs(v) < 2**53 else v for v in given]
    if len({json.dumps(v, default=str, sort_keys=True) for v in numbers}) < len(given):
        raise UsageError(f"{where}.{kind}: a value is given twice")
    return tuple(given)


def _bounds(where: str, kind: str, given: Any) -> tuple[float, float]:
    if not isinstance(given, list) or len(given) != 2:
        raise UsageError(f"{where}: must be [low, high], got {given!r}")
    for bound in given:
        if kind == "int" and not _is_whole(bound):
            raise UsageError(f"{where}: must be two whole numbers, got {bound!r}")
        if not _is_number(bound):
            raise UsageError(f"{where}: must be two finite numbers, got {bound!r}")
    low, high = given
    if low >= high:
        raise UsageError(f"{where}: must begin below its end, got [{low}, {high}]")
    if kind == "loguniform" and low <= 0:
        raise UsageError(f"{where}: must begin above 0 to have logarithms, got {low}")
    return low, high


def _conditions(where: str, given: Any) -> tuple[Condition, ...]:
    if not isinstance(given, dict):
        raise UsageError(f"{where}: must map keys to the values they must have")
    conditions = []
    for key, value in given.items():
        values: Sequence[Any] = value if isinstance(value, list) else [value]
        if not values:
            raise UsageError(f"{where}.{key}: must be a value, or a list of at least one")
        conditions.append(Condition(tuple(str(key).split(".")), tuple(values)))
    return tuple(conditions)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
