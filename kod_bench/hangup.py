"""SIGHUP: the terminal is closed, or the connection to it lost. As SIGTERM, unless under nohup."""

import contextlib
import os
import signal
import stat
import threading
from collections.abc import Iterator


def asks_to_stop() -> tuple[signal.Signals, ...]:
    """The signals that ask to stop: SIGHUP not where it is ignored, as nohup leaves it."""
    hangs_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangs_up else []))


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
