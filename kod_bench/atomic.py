"""Files that appear whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from kod_bench.names import cut_to_bytes

#: Matches what a killed `atomic_write` leaves behind.
LEFTOVERS = ".*.tmp"


@contextmanager
def atomic_write(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a file that takes its name only once it is complete and on the disk.

    It is written beside `path` under a name of this process, synced, and renamed. If the body or
    the disk fails, `path` stays as it was and nothing else remains.

    Args:
        path: of the file.
        mode: of the file; the umask takes from it.

    Raises:
        OSError: if it cannot be written.
    """
    # The name may already have all the bytes that a name may have.
    # Nobody else's: threads share a process's number, and so do containers on one disk.
    own = f"{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{cut_to_bytes(path.name, 200)}.{own}.tmp")
    try:
        # Never through a link, or into a pipe, that somebody has put under this name.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
