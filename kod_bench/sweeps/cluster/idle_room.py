"""Room of a Ray cluster that nobody waits for, and processes that draw samples there.

A trial that draws looks now and then. While there is room and nobody waits, it starts one more
process that draws shards of the same ways. Such a process looks, too, and ends as soon as anybody
waits for what it has: a trial of this sweep, or whatever else the cluster is to run.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kod_bench.errors import one_line
from kod_bench.sweeps.cluster.capacity import workers_on
from kod_bench.sweeps.plan.progress import Status
from kod_bench.sweeps.space import ResourceOptions

#: Bytes of memory, by which Ray's account of who waits knows those that help from all others.
HELPER_MARK = 4321

#: Starting a process takes some seconds of each of which a core is busy: not for less than this.
_WORTH_SECONDS = 20.0
_LOOK_SECONDS = 2.0
#: A helper that has not begun by then is waited for no longer.
_START_SECONDS = 60.0
#: So often it is tried again where helpers fail.
_MOST_FAILURES = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Room:
    """What a cluster has to spare.

    Attributes:
        workers: that fit beside each other into what is free now.
        wanted: whether anybody waits for resources, other than those that help.
    """

    workers: int
    wanted: bool


def idle_room(resources: ResourceOptions) -> Room:
    """What the Ray cluster that this process belongs to has to spare for workers of a trial.

    Where Ray does not tell, there is nothing to spare.
    """
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status

    try:
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
    except Exception as error:  # a cluster that is about to go, or of another version
        _log.info("Ray does not say who waits: %s", one_line(error))
        return Room(0, wanted=True)
    return room_of(status, resources)


def room_of(status: Any, resources: ResourceOptions) -> Room:
    """The same, of a `ClusterStatus` of Ray's."""
    demands = status.resource_demands
    bundles = [
        asked.bundle
        for demand in (*demands.ray_task_actor_demand, *demands.placement_group_demand)
        for asked in demand.bundles_by_count
    ]
    wanted = any(bundle.get("memory") != HELPER_MARK for bundle in bundles)
    nodes = (_free(node) for node in (*status.active_nodes, *status.idle_nodes))
    return Room(sum(workers_on(node, resources) for node in nodes), wanted)


def _free(node: Any) -> Mapping[str, float]:
    usage = () if node.resource_usage is None else node.resource_usage.usage
    return {each.resource_name: each.total - each.used for each in usage}


def asked_to_give_way(resources: ResourceOptions) -> Callable[[], bool]:
    """Whether anybody waits for room; looks at most every other second."""
    looked, found = -_LOOK_SECONDS, False

    def check() -> bool:
        nonlocal looked, found
        now = time.monotonic()
        if now - looked >= _LOOK_SECONDS:
            looked, found = now, idle_room(resources).wanted
        return found

    return check


@dataclass
class _Started:
    actor: Any
    drawing: Any  # Ray's reference of its whole work: whether it could be of any help
    asked: float
    ready: Any  # None once it has begun


@dataclass
class Helpers:
    """Those that help one trial.

    Args:
        start: starts one, given its number: its actor, which has `ready` and `draw`.
        room: looks at the cluster.
    """

    start: Callable[[int], Any]
    room: Callable[[], Room]
    _helpers: list[_Started] = field(default_factory=list)
    _looked: float = -_LOOK_SECONDS
    _count: int = 0
    _useless: bool = False
    _failures: int = 0

    def look(self, status: Status) -> None:
        """The trial says what it does: more help is asked for, or none is needed any more."""
        if status.phase != "sampling":
            self.end()
            return
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        self._forget_ended(now)
        # What they take off the work is not known yet of those that have not begun.
        if any(each.ready is not None for each in self._helpers):
            return
        if self._useless or status.seconds_left is None or status.seconds_left < _WORTH_SECONDS:
            return
        room = self.room()
        if room.workers < 1 or room.wanted:
            return
        self._count += 1
        actor = self.start(self._count)
        ready = actor.ready.remote()  # before `draw`, since an actor does one thing after another
        self._helpers.append(_Started(actor, actor.draw.remote(), now, ready))

    @property
    def at_work(self) -> bool:
        """Whether any of them has begun and not ended."""
        self._forget_ended(time.monotonic())
        return any(each.ready is None for each in self._helpers)

    def end(self) -> None:
        """End all of them, wherever they are."""
        import ray

        for each in self._helpers:
            ray.kill(each.actor)
        self._helpers.clear()

    def _helped(self, ended: _Started) -> bool:
        """Whether another one could do better than one that has ended."""
        import ray

        try:
            return bool(ray.get(ended.drawing))
        except ray.exceptions.RayTaskError as error:  # it failed there, as the next one would
            self._failures += 1
            _log.warning("one that helped to draw has failed: %s", one_line(error.cause or error))
            return self._failures < _MOST_FAILURES
        except ray.exceptions.RayError:  # its process or its node is gone
            return True

    def _forget_ended(self, now: float) -> None:
        import ray

        kept = []
        for each in self._helpers:
            if each.ready is not None and ray.wait([each.ready], timeout=0)[0]:
                each.ready = None
            ended = bool(ray.wait([each.drawing], timeout=0)[0])
            if ended:
                self._useless |= not self._helped(each)
            if ended or (each.ready is not None and now - each.asked > _START_SECONDS):
                ray.kill(each.actor)
            else:
                kept.append(each)
        self._helpers = kept
