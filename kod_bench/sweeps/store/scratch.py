"""Folders for what a process throws away at its end, cleared after those that were killed."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "kod-bench-"

#: In each folder, locked while it is in use: a folder without it may be anything of anybody's.
_MARKER = ".kod-bench-scratch"


@contextlib.contextmanager
def scratch_folder(place: Path | None = None) -> Iterator[Path]:
    """A new folder for as long as the body runs.

    A killed process leaves its own behind, which the next one to come here removes.

    Args:
        place: where it is made; None: where temporary files are.

    Raises:
        OSError: if it cannot be made.
    """
    place = Path(tempfile.gettempdir()) if place is None else place
    _remove_abandoned(place)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    try:
        with (folder / "marker").open("w") as marker:
            fcntl.flock(marker, fcntl.LOCK_EX)
            (folder / "marker").rename(folder / _MARKER)  # from its first moment it is locked
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # not ours, in use, or gone meanwhile
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / _MARKER).open() as marker:
                fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
