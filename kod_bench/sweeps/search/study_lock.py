"""The lock of an Optuna study's file, which does not outlive a holder that was killed."""

import contextlib
import os
import time
from pathlib import Path

#: How long one holder may have it: another tool that writes to the study, or was killed.
PATIENCE_SECONDS = 30.0


class StudyLock:
    """As Optuna's own, a link beside the file, so that its tools and this wait for each other.

    Optuna's (5.0) asks for the age of what the link leads to. Where the path was a relative one
    it leads nowhere, and a holder that was killed would hold the lock for ever; this asks for the
    age of the link itself.

    Args:
        path: of the study's file.
    """

    def __init__(self, path: Path) -> None:
        self._target = path.absolute()
        self._link = self._target.with_name(f"{path.name}.lock")

    def acquire(self) -> bool:
        """Wait for the lock, as long as others take it in turn."""
        seen, since, pause = 0, time.monotonic(), 0.001
        while True:
            with contextlib.suppress(FileExistsError):
                self._link.symlink_to(self._target)
                return True
            with contextlib.suppress(FileNotFoundError):  # released meanwhile
                made = os.lstat(self._link).st_mtime_ns
                if made != seen:
                    seen, since = made, time.monotonic()
                elif time.monotonic() - since > PATIENCE_SECONDS:
                    self._link.unlink()
            time.sleep(pause)
            pause = min(2 * pause, 0.2)

    def release(self) -> None:
        """Give it back."""
        self._link.unlink(missing_ok=True)
