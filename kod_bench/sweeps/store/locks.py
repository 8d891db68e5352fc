"""Lock files. The kernel frees a lock when its holder dies, however it dies."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kod_bench.inside import MOST_RECORD, open_file, open_to_change


class LockedError(RuntimeError):
    """Another process holds the lock."""


@contextmanager
def exclusive_lock(path: Path, patience: float) -> Iterator[None]:
    """Hold a lock file, waiting up to `patience` seconds for it.

    Raises:
        LockedError: if another process still holds it then.
        OSError: if there is something else under its name.
    """
    deadline = time.monotonic() + patience
    with open_to_change(path) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise LockedError(f"{path} is held by another process") from None
                time.sleep(0.1)
        yield


def is_locked(path: Path) -> bool:
    """Whether a process on this machine holds the lock. Needs no permission to write."""
    try:
        with open_file(path, MOST_RECORD) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    except OSError:
        pass
    return False
