"""The record of a training run: one JSON object per line, readable while it grows."""

import json
from pathlib import Path
from typing import Any

from kod_bench.atomic import atomic_write
from kod_bench.inside import MOST_HISTORY, UnreadableError, open_to_append, parse_json, read_bytes
from kod_bench.training.curves import CurveWriter

#: What is no curve: the axis, and what grows with it.
_NO_CURVES = ("iteration", "seconds")


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
    try:
        # Lines end where a line feed is, and not at the characters that end lines elsewhere.
        lines = read_bytes(path, MOST_HISTORY).split(b"\n")
    except FileNotFoundError:
        return []
    records = []
    for line in lines:
        try:
            record = parse_json(line, str(path))
        except UnreadableError:
            continue
        if isinstance(record, dict) and _is_sound(record):
            records.append(record)
    return records


def _is_sound(record: dict[str, Any]) -> bool:
    numbers = all(
        value is None or isinstance(value, (float, bool)) or _is_count(value)
        for value in record.values()
    )
    return numbers and _is_count(record.get("iteration"))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
