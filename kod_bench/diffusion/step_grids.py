"""Which of T steps are kept where fewer jumps are made."""

from bisect import bisect_left
from collections.abc import Sequence


def even_steps(steps: int, count: int) -> tuple[int, ...]:
    """T i / n, rounded, for i from n = `count` down to 1 (arXiv 2010.02502, appendix D)."""
    return tuple((2 * steps * i + count) // (2 * count) for i in range(count, 0, -1))


def steps_to_one(steps: int, count: int) -> tuple[int, ...]:
    """From T down to 1, evenly; T alone if one is asked for."""
    if count == 1:
        return (steps,)
    last = count - 1
    return tuple(1 + (2 * (steps - 1) * i + last) // (2 * last) for i in range(last, -1, -1))


def steps_even_in(levels: Sequence[float], count: int) -> tuple[int, ...]:
    """From T down to 1, T alone if one is asked for: those nearest to even values of a level.

    Args:
        levels: of the steps 1..T, growing.
        count: how many, 1..T; all different.
    """
    steps, chosen = len(levels), [len(levels)]
    for left in range(count - 1, 0, -1):
        wanted = levels[0] + (levels[-1] - levels[0]) * (left - 1) / (count - 1)
        above = min(bisect_left(levels, wanted), steps - 1)
        below = max(above - 1, 0)
        near = below if wanted - levels[below] < levels[above] - wanted else above
        chosen.append(max(left, min(near + 1, chosen[-1] - 1)))
    return tuple(chosen)
