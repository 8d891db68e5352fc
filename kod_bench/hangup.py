"""Signals that ask to stop: a closed terminal, unless under nohup; and what comes twice in one."""

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator

#: Shorter than people take to mean it a second time, longer than `uv run` takes.
ECHO_SECONDS = 0.4


def asks_to_stop() -> tuple[signal.Signals, ...]:
    """The signals that ask to stop: SIGHUP not where it is ignored, as nohup leaves it."""
    hangs_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangs_up else []))


class Echoes:
    """Tells a signal that arrives twice, because it was passed on, from one that was sent twice.

    A closed terminal, a job scheduler and systemd signal every process of a group, and ``uv run``,
    which is one of them, passes on what it gets: at once, or for SIGINT 0.2 s later.
    """

    def __init__(self) -> None:
        self._last: dict[int, float] = {}

    def is_one(self, number: int) -> bool:
        """Whether the signal that has just arrived is an echo of the one before.

        Args:
            number: of the signal.
        """
        now = time.monotonic()
        is_one = now - self._last.get(number, -ECHO_SECONDS) < ECHO_SECONDS
        if not is_one:
            self._last[number] = now
        return is_one


def leave_terminal(number: int) -> None:
    """After SIGHUP, print to nowhere what would be printed to the terminal: it is gone.

    Args:
        number: of the signal that has arrived.
    """
    if number != signal.SIGHUP:
        return
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for descriptor in (0, 1, 2):
            if _was_terminal(descriptor):
                os.dup2(nowhere, descriptor)
        os.close(nowhere)


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that are started by the body, and theirs, ignore SIGHUP: they save when asked.

    But from the main thread alone, as signals can be set nowhere else.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL if previous is None else previous)


def _was_terminal(descriptor: int) -> bool:
    """Whether it is a character device other than /dev/null; of a dead terminal, isatty says no."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return stat.S_ISCHR(status.st_mode) and not os.path.samestat(status, os.stat(os.devnull))
