"""Asks a cluster that grows for nodes, for as long as whoever asks is alive.

Ray's autoscaler keeps what was last asked of it, even if the driver that asked has been killed: its
nodes would stay, and cost. So a small actor on the head asks in the drivers' place, adds up what
several of them want, and forgets who has not spoken for a while.
"""

import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from kod_bench.errors import one_line

if TYPE_CHECKING:  # the keeper needs no torch
    from kod_bench.sweeps.space import ResourceOptions

Bundle = dict[str, float]

#: A driver repeats what it wants so often, in seconds; what it wanted is forgotten after so many.
_REPEAT_SECONDS = 10.0
FORGET_SECONDS = 60.0
_CLOSING_SECONDS = 5.0
_NAME = {"name": "kod-bench-demand", "namespace": "kod-bench"}

_log = logging.getLogger(__name__)


def worker_bundle(resources: "ResourceOptions") -> Bundle:
    """What one worker of a trial takes of a node, in the autoscaler's eyes.

    It adds fractions of GPUs up, though none is put together from several: of 0.6 it is told 1.
    """
    bundle = {"CPU": float(resources.cpus_per_worker)}
    if (gpus := resources.gpus_per_worker) > 0:
        # Fractions such as 0.1 must not lose a worker to rounding.
        bundle["GPU"] = gpus if gpus >= 1 else 1 / int(1 / gpus + 1e-9)
    return bundle


class Demand:
    """What one driver asks of its cluster while the body runs.

    Where the cluster has no autoscaler, nobody listens.
    """

    def __init__(self) -> None:
        self._who = secrets.token_hex(8)
        self._keeper: Any = None
        self._answer: Any = None
        self._asked: list[Bundle] = []
        self._at = -_REPEAT_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._keeper is None:
            return
        import ray

        with contextlib.suppress(Exception):  # the cluster may be gone; the keeper forgets
            ray.get(self._keeper.ask.remote(self._who, []), timeout=_CLOSING_SECONDS)

    def ask(self, bundles: list[Bundle]) -> None:
        """Have the cluster be large enough for all of these at once, whoever uses it now.

        To be called now and then, with the same or with others.
        """
        now = time.monotonic()
        if bundles == self._asked and now - self._at < _REPEAT_SECONDS:
            return
        self._asked, self._at = bundles, now
        try:
            self._send(bundles)
        except Exception as error:  # trials that run need no further nodes; asked again soon
            self._keeper = self._answer = None
            _log.info("the cluster is not asked to grow: %s", one_line(error))

    def _send(self, bundles: list[Bundle]) -> None:
        import ray

        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            ray.get(self._answer)  # raises if somebody has killed the keeper
        if self._keeper is None:
            self._keeper = _keeper()
        self._answer = self._keeper.ask.remote(self._who, bundles)


def _keeper() -> Any:
    """The cluster's actor; started if it is not there."""
    import ray

    return (
        ray.remote(Keeper)
        .options(
            **_NAME,
            lifetime="detached",  # it outlives a driver that is killed
            get_if_exists=True,
            num_cpus=0,
            resources={
                "node:__internal_head__": 0.001
            },  # on another node, that would never be idle
        )
        .remote()
    )


class Keeper:
    """An actor: what all drivers want together, told to the autoscaler when it changes.

    Args:
        end: called once nobody has wanted anything for a while; by default it ends the process.
    """

    def __init__(self, end: Callable[[], object] | None = None) -> None:
        self._end = end or partial(os._exit, 0)
        self._wants: dict[str, tuple[float, list[Bundle]]] = {}
        self._told: list[Bundle] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._forget, name="forget", daemon=True).start()

    def ask(self, who: str, bundles: list[Bundle]) -> None:
        """A driver says what it wants; nothing, at its end."""
        with self._lock:
            self._wants.pop(who, None)
            if bundles:
                self._wants[who] = (time.monotonic(), bundles)
            self._tell()

    def _tell(self) -> None:
        from ray.autoscaler.sdk import request_resources

        wanted = [bundle for _, bundles in self._wants.values() for bundle in bundles]
        if wanted != self._told:
            request_resources(bundles=wanted)
            self._told = wanted

    def _forget(self) -> None:
        idle = time.monotonic()
        while True:
            time.sleep(1)
            now = time.monotonic()
            with self._lock:
                self._wants = {
                    who: said for who, said in self._wants.items() if now - said[0] < FORGET_SECONDS
                }
                self._tell()
                if self._wants:
                    idle = now
                elif now - idle > FORGET_SECONDS:
                    self._end()
                    return
