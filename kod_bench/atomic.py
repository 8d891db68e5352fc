"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from kod_bench.names import cut_to_bytes

#: Matches what a killed `atomic_write` leaves behind.
LEFTOVERS = ".*.tmp"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name only once it is complete and on the disk.

    It is written beside `path` under a name of this process, synced, and renamed. If the body or
    the disk fails, `path` stays as it was and nothing else remains.

    Raises:
        OSError: if it cannot be written.
    """
    # The name may already have all the bytes that a name may have.
    temporary = path.with_name(f".{cut_to_bytes(path.name, 200)}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
