"""A cluster is asked to grow for trials that wait, and by nobody who has gone."""

import threading
from typing import Any, cast

import pytest
from ray.autoscaler import sdk

from kod_bench.sweeps.cluster import capacity, demand
from kod_bench.sweeps.cluster.capacity import GroupRoom
from kod_bench.sweeps.cluster.demand import Demand, Keeper, worker_bundle
from kod_bench.sweeps.space import ResourceOptions


def resources(workers: int = 2, gpus: float = 0.0) -> ResourceOptions:
    return ResourceOptions(workers_per_trial=workers, cpus_per_worker=3, gpus_per_worker=gpus)


@pytest.mark.parametrize(
    ("gpus", "asked"), [(0.0, None), (2.0, 2.0), (0.5, 0.5), (0.6, 1.0), (0.3, 1 / 3), (0.1, 0.1)]
)
def test_shares_of_a_gpu_are_not_put_together_from_several(
    gpus: float, asked: float | None
) -> None:
    assert worker_bundle(resources(gpus=gpus)).get("GPU") == asked


class Nodes:
    """A cluster, and what it is asked for."""

    def __init__(self) -> None:
        self.cpus = [3.0, 3.0]
        self.asked: list[Any] = []

    def alive(self) -> list[dict[str, float]]:
        return [{"CPU": cpus} for cpus in self.cpus]

    def ask(self, bundles: Any) -> None:
        self.asked.append(bundles)


def test_as_many_trials_begin_as_fit_and_room_is_asked_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes, left, now = Nodes(), [5], [0.0]
    monkeypatch.setattr(capacity, "alive_nodes", nodes.alive)
    monkeypatch.setattr(capacity.time, "monotonic", lambda: now[0])
    room = GroupRoom(resources(), lambda: left[0], cast(Demand, nodes))
    assert room.is_there(running=0)
    assert not room.is_there(running=1)
    assert nodes.asked[-1] == [{"CPU": 3.0}] * 10
    nodes.cpus *= 3  # it has grown
    assert not room.is_there(running=1), "it looks now and then, not at every step"
    now[0], left[0] = 10.0, 4
    assert room.is_there(running=1)
    assert room.is_there(running=2)
    assert not room.is_there(running=3)
    assert nodes.asked[-1] == [{"CPU": 3.0}] * 10  # one that runs and four that wait
    now[0], left[0] = 20.0, 10_000
    room.is_there(running=1)
    assert len(nodes.asked[-1]) == 400
    nodes.cpus = []  # a trial that waits for its node to come back is one that runs
    now[0] = 30.0
    assert room.is_there(running=0)
    assert not room.is_there(running=1)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the autoscaler is told."""
    heard: list[Any] = []
    monkeypatch.setattr(sdk, "request_resources", lambda bundles: heard.append(bundles))
    return heard


def test_drivers_are_added_up_and_one_that_is_silent_is_forgotten(
    told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = [{"CPU": 1.0}], [{"CPU": 2.0}] * 2
    ended = threading.Event()
    keeper = Keeper(ended.set)
    keeper.ask("first", one)
    keeper.ask("second", two)
    keeper.ask("first", one)
    assert told == [one, one + two, two + one]
    keeper.ask("second", [])
    assert told[-1] == one
    monkeypatch.setattr(demand, "FORGET_SECONDS", 0.0)
    assert ended.wait(10)
    assert told[-1] == []
