"""The record of a training run: one JSON object per line, readable while it grows."""

import contextlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kod_bench.atomic import atomic_write
from kod_bench.inside import MOST_HISTORY, UnreadableError, open_file, open_to_append, parse_json
from kod_bench.training.curves import CurveWriter

#: What is no curve: the axis, and what grows with it.
_NO_CURVES = ("iteration", "seconds")

#: Bytes of the longest line that is read as one; those that are written have some hundred.
_MOST_LINE = 2**16
#: Bytes of a long line among those that are written.
_LONG_LINE = 500


class History:
    """Appends records to a JSON Lines file, and their numbers to curves.

    Args:
        path: the file; its folder must exist.
        keep_up_to: records of later iterations are dropped first. A run that continues from a
            checkpoint repeats the iterations after it, and must not list them twice.
        curves: for TensorBoard; None: no curves.
    """

    def __init__(self, path: Path, keep_up_to: int = 0, curves: CurveWriter | None = None) -> None:
        self._path = path
        self._curves = curves
        kept = [r for r in read_history(path) if r["iteration"] <= keep_up_to]
        with atomic_write(path) as file:
            file.writelines(f"{json.dumps(record)}\n".encode() for record in kept)

    def append(self, record: dict[str, Any]) -> None:
        """Add one record; it must have the key `iteration`."""
        with open_to_append(self._path) as file:
            file.write(f"{json.dumps(record)}\n".encode())
        if self._curves is not None:
            points = {f"train/{name}": v for name, v in record.items() if name not in _NO_CURVES}
            self._curves.add(record["iteration"], points)


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read the records; a missing file is an empty history, a torn line (a crash) is left out.

    So is a line that is no record: without a number of iterations, or with a value that is none.

    Raises:
        UnreadableError: if the file is no regular one, or cannot be read.
    """
    with _opened(path) as file:
        return list(_records(_lines(file), path))


def sampled_history(path: Path, most: int) -> list[dict[str, Any]]:
    """Records that tell how a training went: all, or of a long history some at even distances.

    Args:
        path: the file.
        most: of a long history, so many records at most: all of them would take minutes.

    Raises:
        UnreadableError: as from `read_history`.
    """
    with _opened(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        lines = _lines(file) if size <= most * _LONG_LINE else _sampled_lines(file, size, most)
        return list(_records(lines, path))


def last_record(path: Path) -> dict[str, Any] | None:
    """The newest record, of the lines at the end of a history; None if there is none.

    Raises:
        UnreadableError: as from `read_history`.
    """
    with _opened(path) as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - _MOST_LINE)
        file.seek(start)
        lines = file.read(_MOST_LINE).split(b"\n")
    return next(_records(reversed(lines[1:] if start else lines), path), None)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = open_file(path, MOST_HISTORY)
    except FileNotFoundError:
        file = io.BytesIO()
    with file:
        yield file


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """All lines, not at once: there may be millions of empty ones."""
    return iter(lambda: file.readline(_MOST_LINE), b"")


def _sampled_lines(file: BinaryIO, size: int, most: int) -> Iterator[bytes]:
    """The lines that begin next after places at even distances, each once."""
    end = -1
    for number in range(most):
        file.seek(size * number // most)
        if number:
            file.readline(_MOST_LINE)  # of which only the end is here
        if file.tell() >= end:
            yield file.readline(_MOST_LINE)
            end = file.tell()


def _records(lines: Iterable[bytes], path: Path) -> Iterator[dict[str, Any]]:
    """Those of the lines that are records."""
    for line in lines:
        if not line.startswith(b"{"):  # as all that are written do; failing to parse takes longer
            continue
        try:
            record = parse_json(line, str(path))
        except UnreadableError:
            continue
        if isinstance(record, dict) and _is_sound(record):
            yield record


def _is_sound(record: dict[str, Any]) -> bool:
    loss = record.get("loss")
    long = any(isinstance(v, int) and not -(2**53) < v < 2**53 for v in record.values())
    is_number = loss is None or (isinstance(loss, float | int) and not isinstance(loss, bool))
    return _is_count(record.get("iteration")) and is_number and not long


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
