"""Sweeps by what a user calls them: one, several, or all in a folder."""

from collections.abc import Sequence
from pathlib import Path

import kod_bench
from kod_bench.errors import UsageError, one_line
from kod_bench.storage import Location, ObjectFolder, is_uri, local_path
from kod_bench.sweeps.plan.sweep import REHEARSAL_ENDING, SWEEP_FILE, Sweep
from kod_bench.sweeps.store.open import open_sweep

#: Studies that are kept in the repository, and looked up below this name alone: the newest sweep,
#: or that of a search space, is one of the user's own.
REFERENCE = "reference"


class NoSuchSweepError(UsageError):
    """There is no sweep of that name."""


def find_sweep(name: str | None, results_dir: Location) -> Sweep:
    """Find a sweep: by path, or the newest of a name (of a sweep or its space), or of all.

    ``reference/NAME`` is a study that is kept in the repository. A rehearsal is found by a path or
    by its own name alone.

    Raises:
        NoSuchSweepError: if there is none.
        UsageError: if it cannot be read.
    """
    if name is not None and is_uri(name):
        return open_sweep(ObjectFolder(name))
    if name is not None and (local_path(name) / SWEEP_FILE).is_file():
        return open_sweep(local_path(name))
    if name is not None and name.startswith(f"{REFERENCE}/"):
        return _find_reference(name.removeprefix(f"{REFERENCE}/"))
    if isinstance(results_dir, ObjectFolder):
        return _find_remote(name, results_dir)
    found = sorted(results_dir.glob(f"*/*/{SWEEP_FILE}"), key=lambda p: p.parent.name)
    found = [p for p in found if p.parts[-3] != REFERENCE]
    found = [p for p in found if _is_meant(name, p.parts[-3], p.parent.name)]
    if not found:
        raise _no_sweep(name, results_dir)
    return open_sweep(found[-1].parent)


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


def reference_folder() -> Path:
    """Where the kept studies are, if the package was imported from a checkout."""
    return Path(kod_bench.__file__).parents[1] / "results" / REFERENCE


def _find_reference(name: str) -> Sweep:
    kept = sorted(path.parent.name for path in reference_folder().glob(f"*/{SWEEP_FILE}"))
    if name in kept:
        return open_sweep(reference_folder() / name)
    if not kept:
        raise NoSuchSweepError(
            f"no study {REFERENCE}/{name}: studies are kept in the repository and are no part of "
            "the installed package; name the folder of one"
        )
    raise NoSuchSweepError(f"no study {REFERENCE}/{name}; kept are {', '.join(kept)}")


def _of(name: str, results_dir: Location) -> list[Sweep]:
    if is_uri(name):
        return _below(ObjectFolder(name))
    folder = local_path(name)
    if folder.is_dir() and not (folder / SWEEP_FILE).is_file():
        files = sorted((*folder.glob(f"*/{SWEEP_FILE}"), *folder.glob(f"*/*/{SWEEP_FILE}")))
        if files:
            return [open_sweep(file.parent) for file in files]
    return [find_sweep(name, results_dir)]


def _below(there: ObjectFolder) -> list[Sweep]:
    """The sweep at an address, or those one or two folders below."""
    try:
        places: list[ObjectFolder] = []
        for depth in range(3):
            level = [there / name for name in there.folders(depth)] if depth else [there]
            places = [place for place in level if place.find(SWEEP_FILE) is not None]
            if places:
                break
    except OSError as error:
        raise UsageError(f"{there}: cannot be read ({one_line(error)})") from error
    if not places:
        raise UsageError(f"no sweep in {there}; start one with kod-bench sweep")
    return [open_sweep(place) for place in places]


def _find_remote(name: str | None, results_dir: ObjectFolder) -> Sweep:
    """`find_sweep` on an object store: by its folders, not by the trials in them."""
    try:
        both = (each.split("/") for each in results_dir.folders(depth=2))
        found = sorted((sweep, space) for space, sweep in both if _is_meant(name, space, sweep))
        for sweep, space in reversed(found):
            if (there := results_dir / space / sweep).find(SWEEP_FILE) is not None:
                return open_sweep(there)
    except OSError as error:
        raise UsageError(f"{results_dir}: cannot be listed ({one_line(error)})") from error
    raise _no_sweep(name, results_dir)


def _is_meant(name: str | None, space: str, sweep: str) -> bool:
    """Whether a sweep is one of a name: its own, or its space's unless it is a rehearsal."""
    if name in (sweep, f"{space}/{sweep}"):
        return True
    return name in (None, space) and not sweep.endswith(REHEARSAL_ENDING)


def _no_sweep(name: str | None, results_dir: Location) -> NoSuchSweepError:
    what = "no sweep" if name is None else f"no sweep {name!r}"
    return NoSuchSweepError(f"{what} in {results_dir}; start one with kod-bench sweep")
