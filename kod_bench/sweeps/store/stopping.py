"""Ending a sweep early: one Ctrl-C lets trials save where they are, a second one does not wait.

The driver asks by a file in the sweep's folder, which trials on any node can see; they look at it
between training steps and between sampling steps. Nodes that work on copies of a sweep on an object
store have no such file in common: there, the driver's lease says it.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from kod_bench.hangup import Echoes, asks_to_stop, leave_terminal
from kod_bench.inside import open_to_append
from kod_bench.storage import ObjectFolder
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.store.lease import stop_asked

STOP_FILE = "stop"

#: How often a trial looks for the file, in seconds.
_INTERVAL = 0.5

#: How often it asks the object store, in seconds.
_STORE_INTERVAL = 3.0


class StopSignals:
    """While the body runs, SIGINT, SIGTERM and SIGHUP ask the sweep's trials to stop.

    The first one writes the stop file. The second raises KeyboardInterrupt in the main thread, and
    the third ends the process at once, in case something swallows that. To be entered in the main
    thread, after Ray has installed handlers of its own.

    Args:
        folder: the sweep's; a stop file that an earlier run has left there is removed.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / STOP_FILE
        self._count = 0
        self._echoes = Echoes()
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether there was a signal."""
        return self._count > 0

    def __enter__(self) -> Self:
        forget_request(self._file.parent)
        for number in asks_to_stop():
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._file.unlink(missing_ok=True)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Prints nothing: a handler may run in the middle of a print. The watcher does.
        leave_terminal(number)
        if self._echoes.is_one(number):
            return
        self._count += 1
        if self._count == 2:
            raise KeyboardInterrupt
        if self._count > 2:
            os._exit(130)
        try:
            open_to_append(self._file).close()
        except OSError:  # the trials cannot be asked
            self._count = 2
            raise KeyboardInterrupt from None


def requested_here(folder: Path) -> bool:
    """Whether the driver of the sweep in a folder of this machine was told to stop it."""
    return (folder / STOP_FILE).exists()


def forget_request(folder: Path) -> None:
    """Remove what a killed driver has left."""
    (folder / STOP_FILE).unlink(missing_ok=True)


def stop_requested(sweep: Sweep) -> bool:
    """Whether the trials of a sweep are to stop; no, as long as its store cannot be reached."""
    return requested_here(sweep.folder) if sweep.remote is None else _asked_there(sweep.remote)


def stop_check(sweep: Sweep) -> Callable[[], bool]:
    """`stop_requested`, cheap enough to be asked at every step: it looks now and then."""
    if sweep.remote is not None:
        return _StoreCheck(sweep.remote)
    looked, found = -_INTERVAL, False

    def check() -> bool:
        nonlocal looked, found
        now = time.monotonic()
        if not found and now - looked >= _INTERVAL:
            looked, found = now, requested_here(sweep.folder)
        return found

    return check


class _StoreCheck:
    """Looks in a thread of its own: a store that is slow or away holds up no step."""

    def __init__(self, remote: ObjectFolder) -> None:
        self._remote = remote
        self._found = False
        self._looked = -_STORE_INTERVAL
        self._thread: threading.Thread | None = None

    def __call__(self) -> bool:
        now = time.monotonic()
        idle = self._thread is None or not self._thread.is_alive()
        if not self._found and idle and now - self._looked >= _STORE_INTERVAL:
            self._looked = now
            self._thread = threading.Thread(target=self._look, name="stop-check", daemon=True)
            self._thread.start()
        return self._found

    def _look(self) -> None:
        self._found = _asked_there(self._remote)


def _asked_there(remote: ObjectFolder) -> bool:
    try:
        return stop_asked(remote)
    except OSError:
        return False
