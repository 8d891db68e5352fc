import os
from functools import partial

import pytest

from kod_bench.data import workers
from kod_bench.data.workers import map_units


def die_at(fatal: int, unit: int) -> int:
    if unit == fatal:
        os._exit(1)
    return unit


def fail_at(fatal: int, unit: int) -> int:
    if unit == fatal:
        raise LookupError("unit")
    print("a library that prints")  # noqa: T201
    return unit


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("units", [0, 1, 60])
def test_results_come_in_order(units: int, parallel: bool) -> None:
    assert list(map_units(abs, units, abs, parallel=parallel)) == list(range(units))


def test_a_unit_that_kills_its_process_costs_only_itself() -> None:
    found = list(map_units(partial(die_at, 17), 60, lambda unit: -unit, parallel=True))
    assert found == [*range(17), -17, *range(18, 60)]


def test_what_a_unit_raises_is_raised_here() -> None:
    with pytest.raises(LookupError, match="unit"):
        list(map_units(partial(fail_at, 30), 60, abs, parallel=True))


def test_who_stops_early_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    start = workers._Worker._start

    def noted(self: workers._Worker) -> object:
        started.append(start(self))
        return started[-1]

    monkeypatch.setattr(workers._Worker, "_start", noted)
    units = map_units(abs, 1000, abs, parallel=True)
    assert next(units) == 0
    units.close()
    assert started
    assert all(process.returncode is not None for process in started)
