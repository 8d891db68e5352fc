"""Whose the cache is: its user's alone, or shared with those whom KOD_BENCH_CACHE_TRUST names.

What lies in the cache is believed: hashes of files stand for their content, prepared arrays for the
images, features for a reference set. And it holds private images. So:

- The folder belongs to its user, and so does everything in it that is opened; what belongs to
  anybody else is refused in one line. Root may own it too: root could change anything anyway.
- It is closed to others (mode 700), and its folders and files are made so. One of the user's own
  that is open, from an earlier version or made by hand, is closed with a line that says so. A
  folder that holds other things too keeps its mode: then what is of the cache in it is closed.
- Nothing in it is a link that is followed. The folder itself may be one, of the user's own.

``KOD_BENCH_CACHE_TRUST`` shares a cache: ``all``, or names or numbers of users with commas. Then
entries of those are believed, nothing is closed, and modes are those of the umask.
"""

import contextlib
import functools
import logging
import os
import pwd
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kod_bench.data.errors import DataError

TRUST_VARIABLE = "KOD_BENCH_CACHE_TRUST"
EVERYBODY = "all"

#: Folders of the cache: for hashes of files, for what `auto` stands for, and for archives.
HASHES = ".hashes"
SURVEYS = ".surveys"
DOWNLOADS = "downloads"

#: What this project names in a cache: by nothing else is a folder known to be one.
_OF_THE_CACHE = re.compile(
    r"\.hashes|\.surveys|downloads|references|sweeps|inception-.*|\.preparing-.*|.*-[0-9a-f]{24}|\..*\.tmp"
)
_OTHERS = 0o077

_log = logging.getLogger(__name__)
_closed: set[Path] = set()  # by this process: a file system may have no modes to change


def home_cache() -> Path | None:
    """The cache of a user's home folder; None if there is none and none can be made."""
    try:
        folder = Path.home() / ".cache" / "kod-bench"
    except RuntimeError:  # a container's user without an entry
        return None
    nearest = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    # One that is there is taken as it is: what was prepared can be read by those who cannot write.
    can_be = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    return folder if nearest == folder or can_be else None


@functools.cache
def temporary_cache() -> Path:
    """A cache for users without a home; says so once."""
    folder = Path(tempfile.gettempdir()) / f"kod-bench-cache-{os.geteuid()}"
    _log.warning(
        "the home folder cannot hold the cache: it is %s; set KOD_BENCH_CACHE to have it last",
        folder,
    )
    return folder


def check_cache(cache_dir: Path) -> None:
    """Refuse a cache that others own; close one's own that is open to them.

    One that is not there is none to refuse, and one that is no folder is left to whoever writes.

    Raises:
        DataError: naming it and its owner.
    """
    try:
        status = cache_dir.lstat()
        _check_owner(cache_dir, status)
        if stat.S_ISLNK(status.st_mode):
            status = cache_dir.stat()
            _check_owner(cache_dir, status)
    except OSError:
        return
    if stat.S_ISDIR(status.st_mode) and status.st_mode & _OTHERS and _holds_nothing_else(cache_dir):
        _close(cache_dir)


def check_own(path: Path) -> None:
    """Refuse something in the cache that is a link or belongs to others; it need not be there.

    Raises:
        DataError: naming it.
    """
    try:
        status = path.lstat()
    except OSError:
        return
    if stat.S_ISLNK(status.st_mode):
        raise DataError(
            f"{path}: is a link, and the cache may hold none (what it leads to could be "
            "anybody's); put the files themselves there, or set KOD_BENCH_CACHE to another folder"
        )
    _check_owner(path, status)


def own_folder(cache_dir: Path, *names: str) -> Path:
    """A folder of the cache, made if need be.

    Args:
        cache_dir: the cache.
        names: of the folders from there down.

    Raises:
        DataError: if the cache or one of the folders belongs to others, or one is a link.
        OSError: if one cannot be made.
    """
    cache_dir.parent.mkdir(parents=True, exist_ok=True)
    cache_dir.mkdir(folder_mode(), exist_ok=True)
    check_cache(cache_dir)  # after it is there: somebody may have been faster
    folder, closed = cache_dir, _is_closed(cache_dir)
    for name in names:
        folder = folder / name
        folder.mkdir(folder_mode(), exist_ok=True)
        check_own(folder)
        closed = closed or close_folder(folder)
    return folder


def close_folder(folder: Path) -> bool:
    """Close a folder of a cache whose own folder may be open, as it holds other things too.

    Returns:
        Whether others are kept out by it now.

    Raises:
        DataError: if others have left something in it.
    """
    if not _is_closed(folder):
        _close(folder)
    return _is_closed(folder)


def is_shared() -> bool:
    """Whether the user shares the cache with others."""
    return bool(os.environ.get(TRUST_VARIABLE, "").strip())


def folder_mode() -> int:
    """Of a folder that is made in the cache; the umask takes from it."""
    return 0o777 if is_shared() else 0o700


def file_mode() -> int:
    """Of a file that is made in the cache; the umask takes from it."""
    return 0o666 if is_shared() else 0o600


def create_file(path: Path) -> BinaryIO:
    """Make a file in the cache, to be written.

    Raises:
        OSError: if there is anything under its name, or it cannot be made.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, file_mode()), "wb")


def _check_owner(path: Path, status: os.stat_result) -> None:
    trusted = _trusted()
    if trusted is not None and _owner(status) not in trusted:
        name = _user_name(_owner(status))
        raise DataError(
            f"{path}: belongs to {name}, who may have put anything there; set KOD_BENCH_CACHE to "
            f"a folder of your own, or, if you trust them, {TRUST_VARIABLE}={name} (docs/trust.md)"
        )


def _trusted() -> frozenset[int] | None:
    """Numbers of the users whose entries are believed; None: anybody's."""
    said = os.environ.get(TRUST_VARIABLE, "").strip()
    if said == EVERYBODY:
        return None
    named = (_user_number(each.strip()) for each in said.split(",") if each.strip())
    return frozenset({0, os.geteuid(), *named})


def _owner(status: os.stat_result) -> int:
    return status.st_uid


def _user_number(name: str) -> int:
    if name.isascii() and name.isdecimal():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise DataError(
            f"{TRUST_VARIABLE}: there is no user {name!r}; name users, or their numbers, with "
            f"commas, or {EVERYBODY}"
        ) from None


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # of another machine, or in a container
        return str(number)


def _is_closed(folder: Path) -> bool:
    return not folder.stat().st_mode & _OTHERS


def _holds_nothing_else(folder: Path) -> bool:
    """Whether a folder is a cache and no more: it may be where a user has other things too."""
    try:
        return all(map(_OF_THE_CACHE.fullmatch, os.listdir(folder)))
    except OSError:
        return False


def _close(folder: Path) -> None:
    """Close a folder of the user's own to others, who have left nothing in it.

    Raises:
        DataError: if they have, naming it.
    """
    if is_shared() or folder in _closed:
        return
    for entry in _walk(folder):
        with contextlib.suppress(OSError):  # gone meanwhile
            _check_owner(Path(entry.path), entry.stat(follow_symlinks=False))
    _closed.add(folder)
    reason = "its file system keeps no modes"
    try:
        os.chmod(folder, 0o700)
    except OSError as error:
        reason = error.strerror or reason
    if _is_closed(folder):
        _log.warning(
            "the cache %s was open to other users of this machine; it is closed to them now "
            "(to share it: %s, see docs/trust.md)",
            *(folder, TRUST_VARIABLE),
        )
    else:
        _log.warning(
            "the cache %s is open to other users of this machine and cannot be closed (%s); set "
            "KOD_BENCH_CACHE to another folder if images are private",
            *(folder, reason),
        )


def _walk(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder, links not followed."""
    waiting = [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
