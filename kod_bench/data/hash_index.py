"""Hashes of files, remembered: a folder of 50,000 images is read once, not before every run.

A file's hash is its identity. What was hashed before is known again by what the system says of it:
size, time of modification, time of change and inode number. That trusts the system's clock to have
moved between two different contents of the same size, as git and make do; a user cannot set the
time of change back. Files that changed within the last seconds are not remembered at all, since
another change might carry the same time.
"""

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kod_bench.atomic import atomic_write
from kod_bench.data.cache_folder import HASHES, check_own, file_mode, own_folder
from kod_bench.inside import MOST_HISTORY, read_json

_SETTLED_NS = 2_000_000_000  # coarser than the clock of any file system in use (FAT: 2 s)

_Known = dict[str, tuple[list[int], str]]


@dataclass(frozen=True)
class SourceFile:
    """One file, by its content.

    Attributes:
        name: Path below the data folder, with "/" on every system.
        size: Bytes.
        digest: SHA-256 of the bytes, or why they could not be read.
    """

    name: str
    size: int
    digest: str


def hash_files(root: Path, names: Sequence[str], cache_dir: Path, threads: int) -> list[SourceFile]:
    """Size and content hash of files below a folder; those that cannot be read say why.

    Args:
        root: The folder.
        names: Paths below it.
        cache_dir: Where hashes are remembered; nothing is where it cannot be written.
        threads: How many files are read at once.

    Raises:
        DataError: What is remembered belongs to others, or is a link.
    """
    path = cache_dir / HASHES / f"{hashlib.sha256(os.fsencode(root.absolute())).hexdigest()}.json"
    known = _load(path)
    seen: _Known = {}

    def look(name: str) -> SourceFile:
        try:
            status = os.stat(root / name)
            if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
                return SourceFile(name, 0, "not a regular file")
            marks = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
            if name in known and known[name][0] == marks:
                digest = known[name][1]
            else:
                began = time.time_ns()
                with open(root / name, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                if began - max(status.st_mtime_ns, status.st_ctime_ns) < _SETTLED_NS:
                    return SourceFile(name, status.st_size, digest)
        except OSError as error:
            return SourceFile(name, 0, error.strerror or "cannot be read")
        seen[name] = (marks, digest)
        return SourceFile(name, status.st_size, digest)

    with ThreadPoolExecutor(threads) as pool:
        files = list(pool.map(look, names))
    if seen != known:
        with contextlib.suppress(OSError):  # it would only have saved time
            _save(cache_dir, path.name, seen)
    return files


def _load(path: Path) -> _Known:
    check_own(path.parent)
    check_own(path)
    try:
        document = read_json(path, MOST_HISTORY)
        return {name: ([int(mark) for mark in marks], str(d)) for name, (marks, d) in document}
    except (OSError, ValueError, TypeError, OverflowError):
        return {}


def _save(cache_dir: Path, name: str, known: _Known) -> None:
    with atomic_write(own_folder(cache_dir, HASHES) / name, file_mode()) as file:
        # ASCII, with lone surrogates escaped: names may be any bytes.
        file.write(json.dumps(list(known.items())).encode("ascii"))
