"""What tests that start, signal and kill sweeps share."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.chaos import session_processes
from tests.conftest import PATIENCE


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


def wait_for(condition: Callable[[], object], what: str, timeout: float = PATIENCE) -> None:
    """Wait until a condition holds; fail the test if it does not in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def wait_while_running(
    process: "subprocess.Popen[str]",
    condition: Callable[[], object],
    what: str,
    timeout: float = PATIENCE,
) -> None:
    """Wait until a condition holds; fail the test if the process ends before, with what it said."""
    wait_for(lambda: condition() or process.poll() is not None, what, timeout)
    assert process.poll() is None, process.communicate()


#: A trial that is soon done, and one that trains for some seconds.
SHORT_AND_LONG = """models:
  short: {process: ddpm, steps: 4}
  long: {process: ddpm, steps: 4, training: {iterations: 600}}
profiles:
"""


def short_and_long(space: Path) -> None:
    """Give a search space those two models in place of its own."""
    space.write_text(
        re.sub(r"models:\n.*?profiles:\n", SHORT_AND_LONG, space.read_text(), flags=re.S)
    )


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


@contextmanager
def frozen(*processes: int) -> Iterator[None]:
    """Processes that do nothing while the body runs: what was seen of them still holds in it.

    A test that waits for a state and then sends a signal would otherwise race the sweep.
    """
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with suppress(ProcessLookupError):  # the body may have killed it
                os.kill(process, signal.SIGCONT)


def computing(sweep: int) -> list[int]:
    """Of a sweep in a session of its own, the processes that train: the trials', and Train's."""
    return [
        process
        for process, line in session_processes(sweep).items()
        if line.startswith(("ray::ImplicitFunc", "ray::RayTrainWorker"))
    ]


def trial_process(folder: Path) -> int:
    """The id of the process that a trial last ran in."""
    return int(re.findall(r"process (\d+)", (folder / "log.txt").read_text())[-1])
