"""Which of T steps are kept where fewer jumps are made."""


def even_steps(steps: int, count: int) -> tuple[int, ...]:
    """T i / n, rounded, for i from n = `count` down to 1 (arXiv 2010.02502, appendix D)."""
    return tuple((2 * steps * i + count) // (2 * count) for i in range(count, 0, -1))


def steps_to_one(steps: int, count: int) -> tuple[int, ...]:
    """From T down to 1, evenly; T alone if one is asked for."""
    if count == 1:
        return (steps,)
    last = count - 1
    return tuple(1 + (2 * (steps - 1) * i + last) // (2 * last) for i in range(last, -1, -1))
