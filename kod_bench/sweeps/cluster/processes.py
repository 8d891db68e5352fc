"""The processes of this machine, from /proc. Imports nothing but the standard library."""

import contextlib
from pathlib import Path

#: A process: its id, which may be given again, and the time it began, in clock ticks.
Process = tuple[int, int]


def processes() -> dict[Process, int]:
    """All that are alive, with their parents' ids."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    found[int(folder.name), int(fields[19])] = int(fields[1])
    return found
