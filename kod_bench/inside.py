"""The one door to what lies below a sweep's folder: nothing that is opened here leads out of it.

A results folder may be a stranger's, or from a bad day (docs/trust.md says what is promised):

- A name that a file holds is a name, never a path: `child`.
- No link is followed. `check_links` refuses a sweep with links in one line before anything of it is
  touched; every opening here refuses a link again. A link above the sweep, such as a whole results
  folder on a bigger disk, is its user's own and is followed.
- Only regular files are read, none beyond the size that its kind can have: a pipe would hang, and a
  file of zeros take all memory.

What cannot be read raises `UnreadableError`, which names the file and the reason.
"""

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kod_bench.errors import UsageError
from kod_bench.names import MAX_NAME_BYTES

#: Largest sizes by kind, in bytes; many times what this project writes.
MOST_RECORD = 4 * 2**20  # error.json, rungs.json and other small records
MOST_NUMBERS = 16 * 2**20  # measured-*.json
MOST_HISTORY = 512 * 2**20
MOST_ROWS = 256 * 2**20
MOST_PICTURE = 64 * 2**20
MOST_PLAN = 2 * 2**30  # trials.jsonl: ten thousand trials are some megabytes
MOST_DOCUMENT = 64 * 2**20  # sweep.yaml, space.yaml
MOST_CHECKPOINT = 64 * 2**30
MOST_SHARD = 8 * 2**30  # a batch of samples
MOST_CACHE = 8 * 2**30  # reference features


class UnreadableError(OSError):
    """A file of a sweep is not what its name says; the message names it and the reason."""


def is_name(text: object) -> bool:
    """Whether a text can name a file in a folder: one part, no way up, nothing hidden in it."""
    return (
        isinstance(text, str)
        and text not in ("", ".", "..")
        and "/" not in text
        and "\0" not in text
        and len(os.fsencode(text)) <= MAX_NAME_BYTES
    )


def child(folder: Path, *names: str) -> Path:
    """What lies in a folder under names that a file holds.

    Raises:
        UnreadableError: if one of them is no name but a path.
    """
    for name in names:
        if not is_name(name):
            raise UnreadableError(f"{folder}: {name[:80]!r} is no name of a file in it")
        folder = folder / name
    return folder


def check_links(sweep: Path, never_followed: str = "") -> None:
    """Refuse a sweep's folder that holds a link, wherever in it, before anything is touched.

    Args:
        sweep: the folder.
        never_followed: name of a link directly in it that is a lock by being there.

    Raises:
        UsageError: naming the link.
    """
    lock = str(sweep / never_followed)
    for entry in _walk(sweep):
        if entry.is_symlink() and entry.path != lock:
            raise UsageError(
                f"{entry.path}: is a link, and a sweep's folder may hold none (what it leads to "
                "could be anybody's); put the files themselves there, or link the whole results "
                "folder"
            )


def _walk(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder; links are told, not followed."""
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:  # gone meanwhile, or not ours to list: whoever needs it will say so
            continue
        for entry in found:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)


def is_file(path: Path) -> bool:
    """Whether a regular file lies there, itself and not by a link."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def is_there(path: Path) -> bool:
    """Whether anything lies there, be it a link to nothing, or in a folder that tells nothing."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    return True


def list_folder(folder: Path) -> dict[str, int | None]:
    """What lies directly in a folder.

    Returns:
        Sizes of regular files in bytes, None for all else, by name; nothing if there is no folder.

    Raises:
        UnreadableError: if it is no folder, or does not tell what is in it.
    """
    found: dict[str, int | None] = {}
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for name in os.listdir(descriptor):
                with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                    seen = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    found[name] = seen.st_size if stat.S_ISREG(seen.st_mode) else None
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return {}
    except NotADirectoryError as error:
        raise UnreadableError(f"{folder}: is not a folder") from error
    except OSError as error:
        raise UnreadableError(f"{folder}: cannot be listed ({error.strerror})") from error
    return found


def open_file(path: Path, most: int) -> BinaryIO:
    """Open a file to be read.

    Args:
        path: of the file.
        most: its largest size in bytes.

    Raises:
        FileNotFoundError: if there is none.
        UnreadableError: if it is a link, no regular file, larger than that, or not to be read.
    """
    descriptor = _open(path, os.O_RDONLY)
    size = os.fstat(descriptor).st_size
    if size > most:
        os.close(descriptor)
        raise UnreadableError(f"{path}: has {size} bytes, more than the {most} of its kind")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a file.

    Raises:
        FileNotFoundError: if there is none.
        UnreadableError: as from `open_file`.
    """
    with open_file(path, most) as file:
        try:
            return file.read(os.fstat(file.fileno()).st_size)  # not to its end: it may grow
        except OSError as error:
            raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from error


def read_json(path: Path, most: int = MOST_RECORD) -> Any:
    """The value in a JSON file.

    Raises:
        FileNotFoundError: if there is none.
        UnreadableError: as from `open_file`, or if it is no JSON, nested too deep, or holds a
            number of thousands of digits.
    """
    return parse_json(read_bytes(path, most), str(path))


def parse_json(content: bytes, where: str) -> Any:
    """A JSON value.

    Raises:
        UnreadableError: naming where it was found.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        # Not json's own words: they may be pages, and Python's of a long number advise programmers.
        reason = "is no JSON" if isinstance(error, json.JSONDecodeError) else "is no sound JSON"
        raise UnreadableError(f"{where}: {reason}") from error


def open_to_append(path: Path) -> BinaryIO:
    """Open a file to be appended to; it is made if it is not there.

    Raises:
        UnreadableError: if it is a link, no regular file, or may not be written.
        OSError: if it cannot be written for another reason.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    return os.fdopen(_open(path, flags), "ab")


def open_to_change(path: Path) -> BinaryIO:
    """Open a file to be read and written; it is made if it is not there.

    Raises:
        UnreadableError: if it is a link, no regular file, or may not be written.
        OSError: if it cannot be written for another reason.
    """
    return os.fdopen(_open(path, os.O_RDWR | os.O_CREAT), "r+b")


def _open(path: Path, flags: int) -> int:
    try:
        # Without O_NONBLOCK, opening a pipe would wait for somebody at its other end.
        extra = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags | extra, 0o666)
    except FileNotFoundError:
        raise
    except OSError as error:
        if path.is_symlink():
            raise UnreadableError(f"{path}: is a link") from error
        if path.exists() and not is_file(path):
            raise UnreadableError(f"{path}: is not a regular file") from error
        if flags == os.O_RDONLY:
            raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from error
        if isinstance(error, PermissionError):
            raise UnreadableError(f"{path}: cannot be written ({error.strerror})") from error
        raise
    except ValueError as error:  # a NUL in the name
        raise UnreadableError(f"{path!r}: is no name of a file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableError(f"{path}: is not a regular file")
    return descriptor
