"""Strategies: which points of a model become trials.

A strategy is one function ``(model, options) -> points``. What one that learns from results will
choose is not known before: for the estimate of a dry run, and for the checks before a sweep, draws
stand in for it. `kod_bench.sweeps.search.optuna_search` then chooses.
"""

import hashlib
import json
from collections.abc import Callable, Iterator

from kod_bench.errors import UsageError
from kod_bench.sweeps.space.axes import Axis, Path
from kod_bench.sweeps.space.messages import dotted
from kod_bench.sweeps.space.model import Model, Point
from kod_bench.sweeps.space.search_options import SearchOptions

#: A space of few values is exhausted before `trials` is reached: so many draws in a row that
#: bring nothing new, per point found, say that it is.
_PATIENCE = 10


def grid_points(model: Model, options: SearchOptions) -> Iterator[Point]:
    """Every point of the grids.

    Raises:
        UsageError: if something is to be drawn.
    """
    for path, axis in model.sampled.items():
        raise UsageError(
            f"{model.where(path)}: {axis.kind} is drawn, which search.strategy {options.strategy} "
            "does not do; say search: {strategy: random, trials: NUMBER}, or optuna, or use grid"
        )
    for point in model.grid():
        yield model.complete(point, _never)


def random_points(model: Model, options: SearchOptions) -> Iterator[Point]:
    """At every grid point, `trials` different configurations drawn independently.

    A value depends on the seed, the model, the grid point, its key and the number of the draw,
    and on nothing else: the order of keys does not matter, more trials keep the earlier ones, and
    so do further axes and models.
    """
    for point in model.grid():
        yield from _drawn(model, point, options)


STRATEGIES: dict[str, Callable[[Model, SearchOptions], Iterator[Point]]] = {
    "grid": grid_points,
    "random": random_points,
    "optuna": random_points,  # stand-ins, see above
}


def _drawn(model: Model, point: Point, options: SearchOptions) -> Iterator[Point]:
    trials = options.trials or 1
    grid_point = canonical(point)
    seen: set[str] = set()
    number, in_vain = 0, 0
    while len(seen) < trials and in_vain < _PATIENCE * max(_PATIENCE, len(seen)):
        asked = False

        def place(path: Path, axis: Axis, number: int = number) -> object:
            nonlocal asked
            asked = True
            return axis.at(
                position_of(str(options.seed), model.name, grid_point, dotted(path), str(number))
            )

        full = model.complete(point, place)
        number += 1
        if (text := canonical(full)) in seen:
            in_vain += 1
            continue
        seen.add(text)
        in_vain = 0
        yield full
        if not asked:
            return  # nothing is drawn here


def canonical(point: Point) -> str:
    """A point as text: equal for equal points."""
    return json.dumps(sorted((dotted(path), value) for path, value in point.items()), default=str)


def position_of(*parts: str) -> float:
    """A number in [0, 1), evenly distributed over different parts."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _never(path: Path, axis: Axis) -> object:
    raise AssertionError(f"{dotted(path)} is drawn")  # refused before
