"""Ending a sweep early: one Ctrl-C lets trials save where they are, a second one does not wait.

The driver asks by a file in the sweep's folder, which trials on any node can see; they look at it
between training steps and between sampling steps.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

STOP_FILE = "stop"

#: How often a trial looks for the file, in seconds.
_INTERVAL = 0.5

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While the body runs, SIGINT and SIGTERM ask the sweep's trials to stop.

    The first one writes the stop file. The second raises KeyboardInterrupt in the main thread, and
    the third ends the process at once, in case something swallows that. To be entered in the main
    thread, after Ray has installed handlers of its own.

    Args:
        folder: the sweep's; a stop file that an earlier run has left there is removed.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / STOP_FILE
        self._count = 0
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether there was a signal."""
        return self._count > 0

    def __enter__(self) -> Self:
        self._file.unlink(missing_ok=True)
        for number in _SIGNALS:
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
        self._count += 1
        if self._count == 2:
            raise KeyboardInterrupt
        if self._count > 2:
            os._exit(130)
        try:
            self._file.touch()
        except OSError:  # the trials cannot be asked
            self._count = 2
            raise KeyboardInterrupt from None


def stop_requested(folder: Path) -> bool:
    """Whether the trials of the sweep in a folder are to stop."""
    return (folder / STOP_FILE).exists()


def stop_check(folder: Path) -> Callable[[], bool]:
    """`stop_requested`, cheap enough to be asked at every step: it looks twice a second."""
    looked, found = -_INTERVAL, False

    def check() -> bool:
        nonlocal looked, found
        now = time.monotonic()
        if not found and now - looked >= _INTERVAL:
            looked, found = now, stop_requested(folder)
        return found

    return check
