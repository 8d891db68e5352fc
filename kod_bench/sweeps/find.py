"""Sweeps by what a user calls them: one, several, or all in a folder."""

from collections.abc import Sequence
from pathlib import Path

from kod_bench.errors import UsageError
from kod_bench.storage import Location, ObjectFolder, is_uri
from kod_bench.sweeps.plan import SWEEP_FILE, Sweep, find_sweep, open_sweep


def find_sweeps(names: Sequence[str], results_dir: Location) -> list[Sweep]:
    """Find sweeps, each once.

    Args:
        names: of sweeps, as `find_sweep` takes them, or folders and addresses that hold sweeps or
            search spaces with sweeps; none for the newest sweep.
        results_dir: where names are looked up.

    Raises:
        UsageError: if there is no such sweep.
    """
    if not names:
        return [find_sweep(None, results_dir)]
    found: dict[Location, Sweep] = {}
    for name in names:
        for sweep in _of(name, results_dir):
            found.setdefault(sweep.location, sweep)
    return list(found.values())


def _of(name: str, results_dir: Location) -> list[Sweep]:
    if is_uri(name):
        return _below(ObjectFolder(name))
    folder = Path(name)
    if folder.is_dir() and not (folder / SWEEP_FILE).is_file():
        files = sorted((*folder.glob(f"*/{SWEEP_FILE}"), *folder.glob(f"*/*/{SWEEP_FILE}")))
        if files:
            return [open_sweep(file.parent) for file in files]
    return [find_sweep(name, results_dir)]


def _below(there: ObjectFolder) -> list[Sweep]:
    """The sweep at an address, or those one or two folders below."""
    try:
        places, level = [], [there]
        for _ in range(3):
            places = [place for place in level if place.find(SWEEP_FILE) is not None]
            if places:
                break
            level = [place / name for place in level for name in place.folders()]
    except OSError as error:
        raise UsageError(f"{there}: cannot be read ({' '.join(str(error).split())})") from error
    if not places:
        raise UsageError(f"no sweep in {there}; start one with kod-bench sweep")
    return [open_sweep(place) for place in places]
