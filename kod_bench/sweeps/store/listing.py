"""The files of a sweep's trials, on a disk or an object store: names and sizes, nothing read."""

import logging
from collections.abc import Iterable
from pathlib import Path

from kod_bench.inside import UnreadableError, list_folder
from kod_bench.storage import StoredObject
from kod_bench.sweeps.plan.files import CHECKPOINTS
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.training import checkpoint_iteration

_log = logging.getLogger(__name__)


def list_trials(sweep: Sweep) -> dict[str, dict[str, StoredObject] | None]:
    """The files of every trial that has some, by trial, then by name within its folder.

    One listing of the store, or one walk over the folder; nothing is read.

    Returns:
        Names and sizes by trial; None for a trial whose folder cannot be listed.

    Raises:
        OSError: if the store cannot be reached, or the trials cannot be listed.
    """
    if sweep.remote is not None:
        found: dict[str, dict[str, StoredObject]] = {}
        for name, stored in (sweep.remote / "trials").list().items():
            trial, _, file = name.partition("/")
            found.setdefault(trial, {})[file] = stored
        return {**found}
    trials: dict[str, dict[str, StoredObject] | None] = {}
    for trial in list_folder(sweep.trials_folder):
        try:
            trials[trial] = _stored(sweep.trials_folder / trial)
        except UnreadableError as error:
            _log.warning("%s", error)
            trials[trial] = None
    return trials


def _stored(folder: Path) -> dict[str, StoredObject]:
    """As a store would list the files of a trial; what is no file has no bytes.

    Raises:
        UnreadableError: if the trial's folder cannot be listed.
    """
    sizes = list_folder(folder)
    if CHECKPOINTS in sizes:
        try:
            checkpoints = list_folder(folder / CHECKPOINTS)
        except UnreadableError as error:  # how far a trial is does not matter so much
            _log.warning("%s", error)
        else:
            kept = {n: size for n, size in checkpoints.items() if size is not None}
            sizes |= {f"{CHECKPOINTS}/{name}": size for name, size in kept.items()}
    return {name: StoredObject(size or 0, None) for name, size in sizes.items()}


def trial_files(folder: Path) -> list[str]:
    """Names of the files in a trial's folder and in its folder of checkpoints."""
    return [
        (below / name).relative_to(folder).as_posix()
        for below in (folder, folder / CHECKPOINTS)
        for name, size in list_folder(below).items()
        if size is not None
    ]


def iteration_of(name: str) -> int | None:
    """Of a checkpoint, by its name in the trial's folder; None if it is none."""
    folder, _, file = name.partition("/")
    return checkpoint_iteration(file) if folder == CHECKPOINTS else None


def saved_iteration(files: Iterable[str]) -> int:
    """The iteration of the newest checkpoint among a trial's files, 0 if there is none."""
    return max((iteration_of(name) or 0 for name in files), default=0)
