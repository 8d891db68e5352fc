"""Checkpoints that a crash cannot tear and that nothing has to unpickle."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from kod_bench.atomic import atomic_write
from kod_bench.errors import one_line
from kod_bench.inside import MOST_CHECKPOINT, list_folder, open_file

_log = logging.getLogger(__name__)
_NAME = re.compile(r"iteration-(\d+)\.pt")


class CheckpointStore:
    """The last checkpoints of one training run, as files ``iteration-<n>.pt``.

    Files are written beside their final name, synced and then renamed, so a file with the right
    name is whole unless the disk itself lied; they hold tensors and plain values only and are
    read with ``torch.load(weights_only=True)``, which runs no code.

    Args:
        folder: created on the first save.
        keep: how many to keep; more than one, so that a damaged newest file costs one interval
            and not the run.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self._keep = keep

    def save(self, iteration: int, state: dict[str, Any]) -> Path:
        """Write the state reached after `iteration` iterations, then drop the oldest files.

        Files of later iterations are dropped too: training is here again only if none of them
        could be read, and they would pass for newer than this one.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / checkpoint_name(iteration)
        with atomic_write(path) as file:
            told: Any = _Told(file)
            try:
                torch.save(state, told)
            except Exception:
                # torch's own writer hides why a disk refuses, say that it is full.
                if told.error is not None:
                    raise told.error from None
                raise
        for later, unreadable in self._files():
            if later > iteration:
                unreadable.unlink(missing_ok=True)
        self.prune(self._keep)
        return path

    def load_latest(
        self, check: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any] | None:
        """Read the newest readable checkpoint, onto the CPU; None if there is none.

        Damaged files are passed over, with a line in the log.

        Args:
            check: raises for a state that is of another training; it is passed over, too.
        """
        for _, path in self._files():
            stage = "read"
            try:
                with open_file(path, MOST_CHECKPOINT) as file:
                    state = torch.load(file, map_location="cpu", weights_only=True)
                stage = "used"
                if not isinstance(state, dict):
                    raise TypeError("holds no state")
                if check is not None:
                    check(state)
            except MemoryError:
                raise  # of this process, not of the file
            except Exception as error:  # a torn file fails in many ways: zip, pickle, EOF ...
                reason = one_line(error)
                _log.warning("%s cannot be %s and is passed over: %s", path, stage, reason)
                continue
            return state
        return None

    def latest_iteration(self) -> int:
        """The iteration in the newest file's name, 0 if there is none. Reads no file."""
        return max((iteration for iteration, _ in self._files()), default=0)

    def prune(self, keep: int) -> None:
        """Remove all but the newest `keep` checkpoints."""
        for _, path in self._files()[keep:]:
            path.unlink(missing_ok=True)

    def _files(self) -> list[tuple[int, Path]]:
        """Checkpoints, newest first."""
        names = list_folder(self.folder)
        found = ((checkpoint_iteration(name), self.folder / name) for name in names)
        return sorted(((n, path) for n, path in found if n is not None), reverse=True)


class _Told:
    """A file that remembers why it could not be written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def checkpoint_name(iteration: int) -> str:
    """Name of the file of a checkpoint."""
    return f"iteration-{iteration:08d}.pt"


def checkpoint_iteration(name: str) -> int | None:
    """The iteration in the name of a checkpoint's file; None if it is another file."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None
