"""JSON files that a command writes at its end, and checks at its beginning."""

import json
import tempfile
from pathlib import Path
from typing import Any

from kod_bench.atomic import atomic_write
from kod_bench.errors import UsageError


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before minutes are spent on what goes into it.

    Raises:
        UsageError: naming it and the reason.
    """
    if path.is_dir():
        raise UsageError(f"--json {path}: is a folder; name a file")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UsageError(f"--json {path}: cannot be written ({error.strerror})") from error


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a document, whole or not at all.

    Raises:
        UsageError: if it cannot be written.
    """
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    try:
        with atomic_write(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise UsageError(f"--json {path}: cannot be written ({error.strerror})") from error
