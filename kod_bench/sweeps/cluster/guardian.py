"""Ends what a driver has started, when the driver itself has gone.

Ray's raylet and GCS die with the driver, and its workers with the raylet; but its agents may look
for them for minutes. `guardian` starts a small process that waits for its driver's end, however it
comes, and then kills what is left: the driver's descendants, and whatever writes to the logs of the
Ray session that the driver began, for a process that was started a moment ago may already be an
orphan that nobody knows. It imports next to nothing, for it must be quick.
"""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from kod_bench.sweeps.cluster.processes import Process, processes

#: How often the descendants are noted, in seconds: once their parents have died, nobody knows whose
#: they were.
_INTERVAL = 1.0

#: What the driver says at the end of the body: nothing is to be killed ...
_DISMISSED = b"."

#: ... or, if the body failed, before what there was then: all of it that outlives the driver.
_FAILED = b"!"


@contextlib.contextmanager
def guardian() -> Iterator[None]:
    """Guard what this process starts while the body runs, should it not come to the body's end.

    If the body raises, what it started is ended with this process, not before: Ray may have failed
    halfway, and what it tidies up itself, it does when the interpreter exits.
    """
    # After a failure `writer` stays open: the guardian reads the end of the file when this process
    # has ended. A file object would be closed before, while the interpreter ends, which with Ray
    # takes a second.
    reader, writer = os.pipe()
    before = _to_text(_descendants(os.getpid()) | _in_ray_session(os.getpid()))
    # -P: nothing is imported from the working folder, unless this process does so itself. Any name
    # may be taken there.
    process = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "kod_bench.sweeps.cluster.guardian"),
            *(str(os.getpid()), before),
        ],
        stdin=reader,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    os.close(reader)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # somebody has killed it
            os.write(writer, _FAILED + _to_text(_descendants(os.getpid())).encode() + b"\n")
        raise
    with contextlib.suppress(OSError):
        os.write(writer, _DISMISSED)
    os.close(writer)
    process.wait()


def _to_text(which: set[Process]) -> str:
    return " ".join(f"{process}:{began}" for process, began in which)


def _from_text(text: str) -> set[Process]:
    pairs = (entry.split(":") for entry in text.split())
    return {(int(process), int(began)) for process, began in pairs}


def _descendants(ancestor: int) -> set[Process]:
    """What a process has started, directly or not."""
    children: dict[int, list[Process]] = {}
    for process, parent in processes().items():
        children.setdefault(parent, []).append(process)
    found: set[Process] = set()
    parents = [ancestor]
    while parents:
        new = set(children.get(parents.pop(), ())) - found
        found |= new
        parents += [process for process, _ in new]
    return found


def _in_ray_session(driver: int) -> set[Process]:
    """What writes to the logs of a driver's Ray session, whose name ends with the driver's id."""
    logs = re.compile(rf"/session_[^/]*_{driver}/logs/")
    return {process for process in processes() if _writes_to(process[0], logs)}


def _writes_to(process: int, paths: re.Pattern[str]) -> bool:
    """Whether it has such a file open, and not only to read it, as whoever looks at a log."""
    folder = Path("/proc", str(process))
    with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
        for link in (folder / "fd").iterdir():
            with contextlib.suppress(OSError):
                if paths.search(os.readlink(link)):
                    about = dict(
                        line.split(":", 1)
                        for line in (folder / "fdinfo" / link.name).read_text().splitlines()
                        if ":" in line
                    )
                    if int(about["flags"], 8) & os.O_ACCMODE != os.O_RDONLY:
                        return True
    return False


def _guard(driver: int, before: set[Process]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the driver
    known: set[Process] = set()
    while not select.select([sys.stdin], [], [], _INTERVAL)[0]:
        # An orphan is kept in mind, even while the driver lives: its parent may have been killed.
        known = (known & processes().keys()) | _descendants(driver)
    said = sys.stdin.buffer.read(1)
    if said == _DISMISSED:
        return
    if said == _FAILED:
        known |= _from_text(sys.stdin.buffer.readline().decode())
        sys.stdin.buffer.read()  # to the driver's end
    for process, _ in (known | _in_ray_session(driver)) & processes().keys() - before:
        if process != os.getpid():
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    _guard(int(sys.argv[1]), _from_text(sys.argv[2]))
