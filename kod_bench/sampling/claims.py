"""Which process draws which shard: claims that the kernel drops when their holder dies."""

import contextlib
import errno
import fcntl
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from kod_bench.inside import open_to_change

CLAIMS_FILE = "claims"

_HELD = (errno.EACCES, errno.EAGAIN)


class Claims:
    """Locks on single bytes of one file: byte i is shard i.

    On one machine, and on a disk that several share and that passes on locks (NFS does), no two
    processes hold the same claim. Elsewhere everybody gets it: a shard is then drawn twice, with
    equal bits.

    Args:
        folder: of the shards.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / CLAIMS_FILE

    def __enter__(self) -> Self:
        # One descriptor for all: closing any other of this file would drop the locks, too.
        self._file = open_to_change(self._path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @contextlib.contextmanager
    def claim(self, index: int) -> Iterator[bool]:
        """Hold a shard while the body runs; gives False if another process holds it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, index)
        except OSError as error:
            if error.errno in _HELD:
                yield False
                return
            yield True  # a disk without locks
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, index)
