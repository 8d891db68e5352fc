"""Why a trial has no rows: recorded in its folder, in one line and in full."""

import json
import logging
import socket
import traceback
from datetime import UTC, datetime
from pathlib import Path

from kod_bench.atomic import atomic_write
from kod_bench.errors import one_line
from kod_bench.inside import read_json
from kod_bench.visible import visible

ERROR_FILE = "error.json"

#: A reason is a line; of a longer one, so many characters are shown.
MOST_REASON = 2000

_log = logging.getLogger(__name__)


def write_error(folder: Path, error: BaseException) -> None:
    """Record why a trial failed, unless the disk refuses that too."""
    record = {
        "error": visible(root_message(error)),  # a library's may quote anything
        "type": type(error).__name__,
        "traceback": visible("".join(traceback.format_exception(error))),
        "host": socket.gethostname(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / ERROR_FILE) as file:
            file.write(json.dumps(record, indent=2).encode())
    except OSError:
        _log.exception("the error could not be recorded")


def read_error(folder: Path) -> str | None:
    """The reason an earlier attempt failed, in one line; None if none is recorded."""
    try:
        said = read_json(folder / ERROR_FILE)
    except FileNotFoundError:
        return None
    except OSError:
        return f"{ERROR_FILE} cannot be read"
    reason = said.get("error") if isinstance(said, dict) else None
    if not isinstance(reason, str):
        return f"{ERROR_FILE} cannot be read"
    line = visible(" ".join(reason.split()), keep="")
    return line if len(line) <= MOST_REASON else f"{line[:MOST_REASON]} ..."


def root_message(error: BaseException) -> str:
    """The message of the exception that began a chain of them, some wrapped by Ray."""
    cause = error
    while (inner := cause.__cause__ or getattr(cause, "cause", None)) is not None:
        cause = inner
    return one_line(cause)
