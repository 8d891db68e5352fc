"""Who helps to draw, where, and when it ends."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from kod_bench.sweeps.cluster import idle_room
from kod_bench.sweeps.cluster.idle_room import HELPER_MARK, Helpers, Room, room_of
from kod_bench.sweeps.plan.progress import Status
from kod_bench.sweeps.space import ResourceOptions

DRAWING = Status("sampling", 10, 100, None, 1.0, 90.0)


def node(**resources: tuple[float, float]) -> Any:
    """A node with (used, total) of each resource."""
    usage = [
        SimpleNamespace(resource_name=name, used=used, total=total)
        for name, (used, total) in resources.items()
    ]
    return SimpleNamespace(resource_usage=SimpleNamespace(usage=usage))


def cluster(*nodes: Any, tasks: Any = (), groups: Any = ()) -> Any:
    """What Ray says of a cluster: its nodes, and bundles that tasks and groups wait for."""

    def demands(bundles: Any) -> list[Any]:
        asked = [SimpleNamespace(bundle=bundle, count=1) for bundle in bundles]
        return [SimpleNamespace(bundles_by_count=asked)] if asked else []

    return SimpleNamespace(
        active_nodes=nodes[:1],
        idle_nodes=nodes[1:],
        resource_demands=SimpleNamespace(
            ray_task_actor_demand=demands(tasks), placement_group_demand=demands(groups)
        ),
    )


def test_room_is_counted_node_by_node() -> None:
    two = ResourceOptions(cpus_per_worker=2)
    nodes = (node(CPU=(1.0, 4.0)), node(CPU=(3.0, 4.0)), node(CPU=(0.0, 5.0)), node())
    assert room_of(cluster(*nodes), two) == Room(1 + 0 + 2, wanted=False)
    half = ResourceOptions(gpus_per_worker=0.5)
    nodes = (node(CPU=(0.0, 8.0), GPU=(0.5, 1.0)), node(CPU=(0.0, 8.0)))
    assert room_of(cluster(*nodes), half) == Room(1, wanted=False)


@pytest.mark.parametrize("how", ["tasks", "groups"])
def test_whoever_waits_needs_room_but_those_that_help(how: str) -> None:
    one, free = ResourceOptions(), node(CPU=(0.0, 4.0))
    mark = {"CPU": 1.0, "memory": float(HELPER_MARK)}
    assert not room_of(cluster(free, **{how: [mark]}), one).wanted
    assert room_of(cluster(free, **{how: [mark, {"CPU": 1.0}]}), one).wanted
    assert room_of(cluster(free, **{how: [{"CPU": 1.0, "memory": 1e9}]}), one).wanted


@dataclass
class FakeRay:
    """Actors that are numbers; what they are asked for is done when it stands in `done`."""

    room: Room = field(default_factory=lambda: Room(8, wanted=False))
    began: list[int] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)
    done: set[tuple[str, int]] = field(default_factory=set)
    useless: set[int] = field(default_factory=set)
    failed: dict[int, Exception] = field(default_factory=dict)
    clock: float = 100.0

    def start(self, number: int) -> Any:
        self.began.append(number)
        methods = {
            name: SimpleNamespace(remote=lambda name=name: (name, number))
            for name in ("ready", "draw")
        }
        return SimpleNamespace(number=number, **methods)

    def wait(self, what: list[Any], timeout: float) -> Any:
        return [each for each in what if each in self.done], []

    def get(self, what: Any) -> bool:
        if what[1] in self.failed:
            raise self.failed[what[1]]
        return what[1] not in self.useless

    def kill(self, actor: Any) -> None:
        self.killed.append(actor.number)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRay]:
    import ray

    made = FakeRay()
    monkeypatch.setattr(ray, "wait", made.wait)
    monkeypatch.setattr(ray, "get", made.get)
    monkeypatch.setattr(ray, "kill", made.kill)
    monkeypatch.setattr(idle_room.time, "monotonic", lambda: made.clock)
    return made


def looks(helpers: Helpers, fake: FakeRay, status: Status = DRAWING, times: int = 1) -> None:
    for _ in range(times):
        fake.clock += 3
        helpers.look(status)


def test_help_comes_one_after_another_while_there_is_room(fake: FakeRay) -> None:
    helpers = Helpers(fake.start, lambda: fake.room)
    looks(helpers, fake, times=3)
    assert fake.began == [1]  # what it takes off the work is not known yet
    fake.done = {("ready", 1)}
    looks(helpers, fake, times=2)
    assert fake.began == [1, 2]
    fake.done |= {("ready", 2)}
    fake.room = Room(0, wanted=False)
    looks(helpers, fake, times=2)
    fake.room = Room(3, wanted=True)
    looks(helpers, fake, times=2)
    assert fake.began == [1, 2]
    assert helpers.at_work
    assert fake.killed == []
    looks(helpers, fake, Status("scoring"))
    assert fake.killed == [1, 2]
    assert not helpers.at_work


@pytest.mark.parametrize(
    "status",
    [
        Status("training", 1, 2, 0.1, 1.0, 900.0),
        Status("sampling", 0, 100),
        Status("sampling", 90, 100, None, 1.0, 10.0),
    ],
)
def test_nobody_is_started_for_what_is_soon_done(fake: FakeRay, status: Status) -> None:
    looks(Helpers(fake.start, lambda: fake.room), fake, status, times=3)
    assert fake.began == []


def test_who_has_died_or_given_way_is_followed_by_another(fake: FakeRay) -> None:
    helpers = Helpers(fake.start, lambda: fake.room)
    looks(helpers, fake)
    fake.done = {("ready", 1), ("draw", 1)}  # Ray's reference of a dead actor is done, too
    looks(helpers, fake)
    assert fake.began == [1, 2]
    assert not helpers.at_work
    looks(helpers, fake, times=25)  # the second never begins
    assert fake.killed[:2] == [1, 2]
    assert fake.began == [1, 2, 3]


def test_who_could_be_of_no_help_is_not_followed(fake: FakeRay) -> None:
    helpers = Helpers(fake.start, lambda: fake.room)
    looks(helpers, fake)
    fake.useless = {1}  # its node has another version of the code
    fake.done = {("ready", 1), ("draw", 1)}
    looks(helpers, fake, times=3)
    assert fake.began == [1]


def test_failures_are_said_and_not_repeated_for_ever(
    fake: FakeRay, caplog: pytest.LogCaptureFixture
) -> None:
    from ray.exceptions import ActorDiedError, RayTaskError

    helpers = Helpers(fake.start, lambda: fake.room)
    fake.failed = {1: ActorDiedError()}
    no_disk = FileNotFoundError("/results is not on this node")
    fake.failed |= {n: RayTaskError("draw", "", no_disk) for n in range(2, 9)}
    fake.done = {(name, n) for name in ("ready", "draw") for n in range(1, 9)}
    looks(helpers, fake, times=9)
    assert fake.began == [1, 2, 3, 4]
    assert caplog.text.count("has failed: /results is not on this node") == 3


def test_where_ray_does_not_say_there_is_nothing_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray.autoscaler.v2 import sdk

    def refuses(_: str) -> None:
        raise RuntimeError("timed out")

    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="nowhere"))
    monkeypatch.setattr(sdk, "get_cluster_status", refuses)
    assert idle_room.idle_room(ResourceOptions()) == Room(0, wanted=True)
