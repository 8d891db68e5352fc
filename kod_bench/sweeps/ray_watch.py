"""Notices when Ray itself dies under a sweep.

Ray's own processes can be killed like any other. The driver would then wait for up to a minute, or
for ever; all that is done is on the disk, so it is better to end and say how to go on.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

#: How often they are looked at, in seconds.
_INTERVAL = 1.0

_NAMES = {"gcs_server": "Ray's control process (gcs_server)", "raylet": "Ray's raylet"}


class RayWatch:
    """Watches the processes of the Ray that this process has started.

    Args:
        on_death: called once, in another thread, with the name of what has died. What is left of
            this Ray has been killed by then.
    """

    def __init__(self, on_death: Callable[[str], None]) -> None:
        self._on_death = on_death
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ray-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if value is not None and not isinstance(value, KeyboardInterrupt) and _dead() is not None:
            time.sleep(2 * _INTERVAL)  # the thread has more to say than this exception
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(_INTERVAL):
            if (name := _dead()) is not None:
                with contextlib.suppress(Exception):
                    _node().kill_all_processes(check_alive=False, allow_graceful=False)
                self._on_death(_NAMES[name])
                return


def _dead() -> str | None:
    """The first of Ray's two vital processes that has ended."""
    node = _node()
    if node is None:
        return None
    ended = {name for name, _ in node.dead_processes()}
    return next((name for name in _NAMES if name in ended), None)


def _node() -> Any:
    from ray._private import worker  # Ray says of no other way whether its processes live

    return worker._global_node
