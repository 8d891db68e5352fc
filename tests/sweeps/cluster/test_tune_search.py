"""Tune asks for trials; a disk that refuses the plan for a while is no reason to end the others."""

from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.tune.search import Searcher

from kod_bench.sweeps.cluster import tune_search
from kod_bench.sweeps.cluster.tune_search import TrialQueue
from kod_bench.sweeps.search.supply import TrialSupply


class Supply:
    """Has one trial, once its disk has room."""

    def __init__(self) -> None:
        self.full = True
        self.pending: deque[Any] = deque()
        self.chosen = False

    def has_more(self) -> bool:
        if self.full:
            raise OSError(28, "No space left on device")
        if not self.chosen:
            self.chosen = True
            self.pending.append(SimpleNamespace(id="one"))
        return bool(self.pending)


def test_a_full_disk_holds_choices_back_and_says_so_once() -> None:
    supply, said = Supply(), list[str]()
    queue = TrialQueue(cast(TrialSupply, supply), lambda _: True, said.append)
    assert [queue.suggest("a"), queue.suggest("a")] == [None, None]
    assert len(said) == 1
    assert "No space left" in said[0]
    supply.full = False
    assert queue.suggest("a") == {"id": "one"}
    assert queue.suggest("b") == Searcher.FINISHED


def test_a_disk_that_stays_full_ends_the_sweep_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tune_search, "DISK_PATIENCE_SECONDS", 0.0)
    queue = TrialQueue(cast(TrialSupply, Supply()), lambda _: True, lambda _: None)
    assert Searcher.FINISHED in [queue.suggest("a") for _ in range(3)]
    assert isinstance(queue.gave_up, OSError), "the sweep must not pass for done"


def test_those_that_run_are_counted_until_they_end() -> None:
    supply, asked = Supply(), list[int]()
    supply.full = False

    def may_begin(running: int) -> bool:
        asked.append(running)
        return running == 0

    queue = TrialQueue(cast(TrialSupply, supply), may_begin, lambda _: None)
    assert queue.suggest("a") == {"id": "one"}
    supply.chosen = False
    assert queue.suggest("b") is None
    queue.on_trial_complete("a", error=True)
    assert queue.suggest("b") == {"id": "one"}
    assert asked == [0, 0, 1, 0, 0]
