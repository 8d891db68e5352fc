"""Which of T steps are kept where fewer jumps are made, and which are asked at more than once."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise

#: How often a step is made again, at most (arXiv 2306.14878 calls it K).
_TIMES = 2


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


def corrected_steps(grid: Callable[[int], tuple[int, ...]], evaluations: int) -> tuple[int, ...]:
    """Where a sampler of second order asks: twice at the steps whose jumps it corrects.

    For the correction of the jump that has led there, and for the next one. It cannot correct the
    last jump, to t = 0, where a network knows nothing; nor, if the number is even, does it the
    first. So n jumps take 2 n - 1 evaluations or 2 n - 2, and no budget is exceeded or left over.

    Args:
        grid: the steps at which so many jumps begin, from T down.
        evaluations: how many in all.
    """
    steps = grid(evaluations // 2 + 1)
    corrected = steps[len(steps) - (evaluations - len(steps)) :]
    return tuple(sorted((*steps, *corrected), reverse=True))


def restarted_steps(
    grid: Callable[[int], tuple[int, ...]], evaluations: int, is_made_again: Callable[[int], bool]
) -> tuple[int, ...]:
    """Where a sampler asks that undoes jumps by forward steps and makes them again.

    As few jumps as there can be, so that as many of them as possible are made three times; what is
    over goes to those nearest to the data. Where no jump is to be made again, all are different.

    Args:
        grid: the steps at which so many jumps begin, from T down.
        evaluations: how many in all.
        is_made_again: whether a jump that has led to this step is.
    """
    for count in range(1, evaluations + 1):
        steps = grid(count)
        again = [step for step, to in pairwise((*steps, 0)) if is_made_again(to)]
        more = evaluations - count
        if more <= _TIMES * len(again):
            break
    rest = (again[::-1] * _TIMES)[:more]
    return tuple(sorted((*steps, *rest), reverse=True))
