"""Notices when Ray itself dies under a sweep.

Ray's own processes can be killed like any other. The driver would then wait for up to a minute, or
for ever; all that is done is on the disk, so it is better to end and say how to go on.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kod_bench.sweeps.cluster.processes import processes

#: How often they are looked at, in seconds.
_INTERVAL = 1.0

#: While Ray starts it may find out itself, and say more; but it may also wait for minutes.
_PATIENCE = 15.0

_NAMES = {"gcs_server": "Ray's control process (gcs_server)", "raylet": "Ray's raylet"}


class RayWatch:
    """Watches the processes of the Ray that this process starts.

    To be started before Ray and stopped before Ray is shut down.

    Args:
        on_death: called once, in another thread, with the name of what has died.
    """

    def __init__(self, on_death: Callable[[str], None]) -> None:
        self._on_death = on_death
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ray-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self, *, failed: bool = False) -> None:
        """End it; if the sweep has failed, after a last look: Ray's death may be the reason."""
        if failed:
            time.sleep(2 * _INTERVAL)
        self._over.set()

    def _watch(self) -> None:
        began: dict[int, str] = {}
        missed: float | None = None
        while not self._over.wait(_INTERVAL):
            name = _dead()
            if name is None and _node() is None:
                alive = _children()
                began |= alive
                name = next((began[each] for each in began.keys() - alive), None)
                missed = (missed or time.monotonic()) if name else None
                if missed is None or time.monotonic() - missed < _PATIENCE:
                    continue
            if name is not None:
                self._on_death(_NAMES[name])
                return


def _children() -> dict[int, str]:
    """Those of the two that are alive, as this process has started them; by their ids."""
    found = {}
    for (process, _), parent in processes().items():
        if parent == os.getpid():
            with contextlib.suppress(OSError):  # it ended meanwhile
                line = Path(f"/proc/{process}/cmdline").read_bytes()
                program = Path(os.fsdecode(line.split(b"\0")[0])).name
                if program in _NAMES:
                    found[process] = program
    return found


def _dead() -> str | None:
    """The first of Ray's two vital processes that has ended."""
    node = _node()
    if node is None:
        return None
    ended = {name for name, _ in node.dead_processes()}
    return next((name for name in _NAMES if name in ended), None)


def _node() -> Any:
    # Ray tells in no other way whether its processes live. Not imported here: the main thread may
    # be importing it, and two threads in one circle of imports break it.
    return getattr(sys.modules.get("ray._private.worker"), "_global_node", None)
