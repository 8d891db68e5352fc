"""A user's own files beside a sweep, and a watcher that sees whoever opens one of them."""

import ctypes
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

_HEADER = struct.Struct("iIII")
_WHAT = {
    0x001: "read",
    0x002: "written",
    0x004: "changed in its attributes",
    0x020: "opened",
    0x040: "moved away",
    0x080: "moved here",
    0x100: "made",
    0x200: "deleted",
    0x400: "deleted itself",
    0x800: "moved itself",
}


class Watcher:
    """Sees, by the kernel's inotify, what is done in a tree: even a read, even of a folder's list.

    Access times would tell reads too, but not on a file system that is mounted without them, and
    not who comes a second time within a day.

    Args:
        tree: a folder; what is made in it later is not watched itself.
    """

    def __init__(self, tree: Path) -> None:
        self._tree = tree

    def __enter__(self) -> Self:
        library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        folders = [self._tree, *(path for path in self._tree.rglob("*") if path.is_dir())]
        self._folders = {
            library.inotify_add_watch(self._descriptor, os.fsencode(folder), sum(_WHAT)): folder
            for folder in folders
        }
        if min(self._folders) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")
        return self

    def seen(self) -> list[str]:
        """What was done since this was asked last, in words."""
        try:
            content = os.read(self._descriptor, 2**20)
        except BlockingIOError:
            return []
        found, start = [], 0
        while start < len(content):
            watch, mask, _, length = _HEADER.unpack_from(content, start)
            start += _HEADER.size
            name = content[start : start + length].rstrip(b"\0")
            start += length
            path = self._folders.get(watch, self._tree) / os.fsdecode(name)
            found += [f"{path} {word}" for bit, word in _WHAT.items() if mask & bit]
        return found

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)


def make_outside(folder: Path) -> Path:
    """A tree with all the names that a sweep's folder has, each a user's own file."""
    trial = folder / "trials" / "ddpm-T100-seed0"
    for place in (folder, trial, trial / "checkpoints", folder / "report" / "figures"):
        place.mkdir(parents=True, exist_ok=True)
        for name in ("iteration-00000009.pt", "row.parquet", "kid.svg", "samples.png", "lock"):
            (place / name).write_text("a user's own")
    return folder
