"""The search space as it was when its sweep was planned, kept beside the plan for people.

The plan in ``sweep.yaml`` is what runs. The copy tells whether the space has been edited since, of
which `kod-bench resume` warns: whoever edited it may expect the edit to count.
"""

from pathlib import Path

from kod_bench.atomic import atomic_write
from kod_bench.inside import MOST_DOCUMENT, read_bytes
from kod_bench.sweeps.plan.sweep import Sweep

SPACE_FILE = "space.yaml"
_HEADER = b"# as planned, from: "


def keep_space(folder: Path, source: Path) -> None:
    """Copy a search space into its sweep's folder, with a first line that says where it was."""
    with atomic_write(folder / SPACE_FILE) as file:
        file.write(_HEADER + str(source.resolve()).encode() + b"\n" + source.read_bytes())


def edited_space(sweep: Sweep) -> Path | None:
    """The search space that a sweep was planned from, if it is another now.

    None if it is unchanged, gone, on another machine, or not known.
    """
    try:
        if sweep.remote is not None:
            sweep.remote.download([SPACE_FILE], sweep.folder, missing_ok=True)
        kept = read_bytes(sweep.folder / SPACE_FILE, MOST_DOCUMENT)
        header, _, content = kept.partition(b"\n")
        source = Path(header.removeprefix(_HEADER).decode())
        # The sweep may come from anywhere, and name a device whose reading never ends.
        return source if source.is_file() and source.read_bytes() != content else None
    except (OSError, ValueError):
        return None
