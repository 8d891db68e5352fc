"""What the figures of a comparable set of rows share: colours, ticks, and the real images' line."""

import math
from collections.abc import Sequence

from kod_bench.reports.content import Cell, Group

#: More lines than this are no figure: a search of hundreds of configurations shows the best ones.
MOST_LINES = 12

#: Real versus real is a line only where it is less than so many times below the best score.
_FAR_BELOW = 4


def slots(group: Group) -> dict[str, int]:
    """Colour of each model, the same in all figures of a group: that of its first label."""
    models = {cell.label: cell.model for cell in group.cells}
    if len(models) > MOST_LINES:  # a search: labels' colours would come round again and again
        bases = sorted({cell.base_model for cell in group.cells})
        return {cell.model: bases.index(cell.base_model) for cell in group.cells}
    found: dict[str, int] = {}
    for label, place in label_slots(group).items():
        found.setdefault(models[label], place)
    return found


def label_slots(group: Group) -> dict[str, int]:
    """Colour of each label, the same in all figures of a group."""
    labels = sorted({cell.label for cell in group.cells})
    return {label: place for place, label in enumerate(labels)}


def mean_of(cell: Cell, metric: str) -> float | None:
    """The mean of a cell in one of `METRICS`, if it has one."""
    score = cell.score(metric)
    return None if score is None else score.estimate.mean


def real_floor(
    group: Group, metric: str, values: Sequence[float]
) -> tuple[tuple[float, str] | None, str]:
    """The line of real versus real, and a sentence on it; no line if it would squeeze all else."""
    value = group.real.score(metric)
    if value is None:
        return None, ""
    low, high = min(values), max(values)  # of scores, and of the lower ends of their intervals
    if not low <= value <= high and not 0 < low / _FAR_BELOW <= value <= high:
        return None, f" Real versus real, {value:.3g}, is not on the axis."
    return (
        (value, "real versus real"),
        " Dotted: real versus real, as many training images in place of samples.",
    )


def log_ticks(values: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """Round numbers in the range of positive values, few enough to be read."""
    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 2, 5), range(1, 10)):
        ticks = [
            tick
            for decade in decades
            for digit in digits
            if low / 1.1 <= (tick := digit * 10.0**decade) <= high * 1.1
        ]
        if len(ticks) >= 3:
            break
    return tuple((tick, f"{tick:g}") for tick in ticks)


def log_scale(values: Sequence[float]) -> bool:
    """Whether a logarithmic axis can hold them and is needed."""
    return min(values, default=0.0) > 0 and max(values) > 8 * min(values)
