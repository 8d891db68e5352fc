"""What tests that start, signal and kill sweeps share."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def only_sweep(results: Path) -> Path:
    """The folder of the one sweep under a results folder."""
    (path,) = results.glob("*/*/sweep.yaml")
    return path.parent


def row_files(sweep: Path) -> dict[str, tuple[int, int, bytes]]:
    """Of each finished trial what changes if its row file is written again."""
    found = {}
    for path in sweep.glob("trials/*/row.parquet"):
        status = path.stat()
        found[path.parent.name] = (status.st_ino, status.st_mtime_ns, path.read_bytes())
    return found


def wait_for(condition: Callable[[], object], what: str, timeout: float = 120) -> None:
    """Wait until a condition holds; fail the test if it does not in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def edit(space: Path, old: str, new: str) -> None:
    """Change a search space."""
    text = space.read_text()
    assert old in text
    space.write_text(text.replace(old, new))


def _default_signals() -> None:
    # Who starts the tests in the background leaves SIGINT ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def started(
    command: list[str], *arguments: object, env: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """A kod-bench that runs while the body does, in a session of its own; killed at the end."""
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_default_signals,
        env={**os.environ, **(env or {})},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def trial_process(folder: Path) -> int:
    """The id of the process that a trial last ran in."""
    return int(re.findall(r"process (\d+)", (folder / "log.txt").read_text())[-1])
