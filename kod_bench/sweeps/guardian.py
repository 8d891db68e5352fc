"""Ends what a driver has started, when the driver itself has gone.

Ray's raylet and GCS die with the driver, and its workers with the raylet; but its agents may look
for them for minutes. `guardian` starts a small process that waits for its driver's end, however it
comes, and then kills what is left of the driver's descendants. It imports nothing but the standard
library.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

#: How often the descendants are noted, in seconds: once their parents have died, nobody knows whose
#: they were.
_INTERVAL = 1.0

#: What the driver says at the end of the body: nothing is to be killed.
_DISMISSED = b"."

#: A process: its id, which may be given again, and the time it began, in clock ticks.
_Process = tuple[int, int]


@contextlib.contextmanager
def guardian() -> Iterator[None]:
    """Guard what this process starts while the body runs, should it not come to the body's end."""
    # The pipe's other end closes with this process: the guardian then reads the end of the file.
    before = [f"{process}:{began}" for process, began in _descendants(os.getpid())]
    process = subprocess.Popen(
        [sys.executable, "-m", "kod_bench.sweeps.guardian", str(os.getpid()), *before],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # somebody has killed it
            process.communicate(_DISMISSED)


def _processes() -> dict[_Process, int]:
    """All processes of this machine, with their parents' ids."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                found[int(folder.name), int(fields[19])] = int(fields[1])
    return found


def _descendants(ancestor: int) -> set[_Process]:
    """What a process has started, directly or not."""
    children: dict[int, list[_Process]] = {}
    for process, parent in _processes().items():
        children.setdefault(parent, []).append(process)
    found: set[_Process] = set()
    parents = [ancestor]
    while parents:
        new = set(children.get(parents.pop(), ())) - found
        found |= new
        parents += [process for process, _ in new]
    return found


def _guard(driver: int, before: set[_Process]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the driver
    known: set[_Process] = set()
    while not select.select([sys.stdin], [], [], _INTERVAL)[0]:
        # An orphan is kept in mind, even while the driver lives: its parent may have been killed.
        known = (known & _processes().keys()) | _descendants(driver)
    if os.read(sys.stdin.fileno(), 1) == _DISMISSED:
        return
    for process, _ in (known - before) & _processes().keys():
        if process != os.getpid():
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    driver, *older = sys.argv[1:]
    pairs = (entry.split(":") for entry in older)
    _guard(int(driver), {(int(process), int(began)) for process, began in pairs})
