"""A sweep on an object store: this node works on a copy, the store holds the truth.

What is written often (log, history, checkpoints while they grow) needs a file system. So every node
has a folder of its own in its cache, laid out like a sweep on disk, and all other code works there.
Here is what passes between that folder and the store, and when:

- A trial that starts fetches what an attempt elsewhere has left: checkpoints, history, how much of
  a batch fits in memory.
- At each checkpoint, the checkpoint, history, log and curves are put on the store.
- When it is finished, everything else goes first and ``row.parquet`` last; a row that is there
  already is never put again.

A trial is done if its row is on the store, whatever the copy here says. For a sweep in a folder of
this machine there is nothing to do, and nothing is done.
"""

import contextlib
import logging
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kod_bench.errors import one_line
from kod_bench.inside import is_file, list_folder
from kod_bench.results import (
    REAL_FILE,
    REAL_MAPS_FILE,
    ROW_FILE,
    is_picture,
    parse_rows,
    read_trial,
)
from kod_bench.storage import ObjectFolder, StoredObject
from kod_bench.sweeps.plan.failures import ERROR_FILE
from kod_bench.sweeps.plan.files import (
    CHECKPOINTS,
    CURVES,
    HISTORY_FILE,
    LOG_FILE,
    MEMORY_FILE,
    RUNGS_FILE,
    SAMPLES,
    TRAINING_LOCK,
)
from kod_bench.sweeps.plan.sweep import LOCK_FILE, Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.store.listing import iteration_of, list_trials, saved_iteration, trial_files
from kod_bench.sweeps.store.locks import is_locked
from kod_bench.training import CheckpointStore

_log = logging.getLogger(__name__)


class MirroredCheckpoints(CheckpointStore):
    """Checkpoints that are put on the store as soon as they are written.

    A store that cannot be reached does not end a training: the next checkpoint tries again.

    Args:
        sweep: of the trial.
        trial: whose checkpoints these are.
    """

    def __init__(self, sweep: Sweep, trial: Trial) -> None:
        super().__init__(sweep.trial_folder(trial) / CHECKPOINTS)
        self._sweep = sweep
        self._trial = trial

    def save(self, iteration: int, state: dict[str, Any]) -> Path:
        """Write the state, here and on the store."""
        path = super().save(iteration, state)
        put_working_files(self._sweep, self._trial)
        return path


@contextlib.contextmanager
def working_copy(sweep: Sweep, trial: Trial) -> Iterator[Path]:
    """The trial's folder on this node, with what earlier attempts left; put back at the end."""
    folder = sweep.trial_folder(trial)
    fetch_trial(sweep, trial)
    try:
        yield folder
    finally:
        put_working_files(sweep, trial)


def fetch_trial(sweep: Sweep, trial: Trial) -> None:
    """Bring a trial's folder on this node up to what is on the store.

    Raises:
        OSError: if the store cannot be reached.
    """
    if sweep.remote is None:
        return
    there, folder = sweep.remote / "trials" / trial.id, sweep.trial_folder(trial)
    found = there.list()
    _drop_missing(folder, found)
    if ROW_FILE in found:
        there.download([ROW_FILE], folder)
        if read_trial(folder) is not None:
            return
    reached = CheckpointStore(folder / CHECKPOINTS).latest_iteration()
    ahead = [name for name in found if (iteration_of(name) or 0) > reached]
    if ahead:  # the history belongs to the checkpoints
        ahead += [name for name in (HISTORY_FILE, LOG_FILE) if name in found]
    there.download([*ahead, *({MEMORY_FILE, RUNGS_FILE} & found.keys())], folder)


def put_working_files(sweep: Sweep, trial: Trial) -> None:
    """Put a trial's checkpoints, history, log, curves and error on the store; log it if that fails.

    Where the store has a later checkpoint than this node, another node trains, and what it has put
    there is not set back.
    """
    if sweep.remote is None:
        return
    folder = sweep.trial_folder(trial)
    there = sweep.remote / "trials" / trial.id
    checkpoints = {name for name in trial_files(folder) if iteration_of(name) is not None}
    try:
        on_store = there.list()
        there.upload(_present(folder, [ERROR_FILE]), folder)
        there.upload(_grown_curves(folder, on_store), folder)
        newest = saved_iteration(checkpoints)
        if newest < saved_iteration(on_store):
            return
        # The history first: one that is ahead of the checkpoints is cut back, one behind has gaps.
        there.upload(_present(folder, (HISTORY_FILE, LOG_FILE)), folder)
        there.upload(sorted(checkpoints - on_store.keys()), folder)
        for name in on_store.keys() - checkpoints:
            # Those that were dropped here; never one that another node has reached meanwhile.
            if (iteration := iteration_of(name)) is not None and iteration < newest:
                there.delete(name)
    except OSError as error:
        _log.warning("%s: not all could be put on the store: %s", there, one_line(error))


def publish_rows(sweep: Sweep, trial: Trial) -> None:
    """Put a finished trial on the store, its row last; then drop what this node no longer needs.

    A row that is there already stays, if it can be read: the other attempt was as good.

    Raises:
        OSError: if the store cannot be reached, or refuses: the trial is not done.
    """
    if sweep.remote is None:
        return
    folder, there = sweep.trial_folder(trial), sweep.remote / "trials" / trial.id
    _upload_pictures(folder, there)
    put_working_files(sweep, trial)
    if there.find(ROW_FILE) is None or parse_rows(there.read(ROW_FILE)) is None:
        there.upload([ROW_FILE], folder)
    there.delete(ERROR_FILE)
    for name in (CHECKPOINTS, SAMPLES):
        shutil.rmtree(folder / name, ignore_errors=True)


@contextlib.contextmanager
def put_pictures(sweep: Sweep, trial: Trial) -> Iterator[None]:
    """Put the pictures that the body draws on the store: its node need not be the one of the row.

    Raises:
        OSError: if the store cannot be reached, or refuses.
    """
    yield
    if sweep.remote is not None:
        _upload_pictures(sweep.trial_folder(trial), sweep.remote / "trials" / trial.id)


def _upload_pictures(folder: Path, there: ObjectFolder) -> None:
    there.upload([name for name in list_folder(folder) if is_picture(name)], folder)


def put_error(sweep: Sweep, trial: str) -> None:
    """Put the error that was recorded for a trial on the store, if it can be reached."""
    _put(sweep, trial, ERROR_FILE)


def put_micro_batch(sweep: Sweep, trial: Trial) -> None:
    """Put on the store what a trial has learnt about memory, if it can be reached.

    Only who has learnt it does: another node's copy may be an older one.
    """
    _put(sweep, trial.id, MEMORY_FILE)


def put_rungs(sweep: Sweep, trial: Trial) -> None:
    """Put on the store what a trial had at its rungs, if it can be reached."""
    _put(sweep, trial.id, RUNGS_FILE)


def fetch_micro_batch(sweep: Sweep, trial: Trial) -> None:
    """Fetch what any worker of a trial has learnt about memory.

    Raises:
        OSError: if the store cannot be reached.
    """
    fetch_named(sweep, [f"{trial.id}/{MEMORY_FILE}"])


def _put(sweep: Sweep, trial: str, file: str) -> None:
    if sweep.remote is not None:
        try:
            (sweep.remote / "trials" / trial).upload([file], sweep.trials_folder / trial)
        except OSError as error:
            _log.warning("%s of %s could not be put on the store: %s", file, trial, one_line(error))


def forget_error(sweep: Sweep, trial: Trial) -> None:
    """Remove the reason of an earlier failure: it must not pass for that of a new attempt."""
    path = sweep.trial_folder(trial) / ERROR_FILE
    known = path.exists()
    path.unlink(missing_ok=True)
    if sweep.remote is not None and known:  # outcomes were fetched before
        (sweep.remote / "trials" / trial.id).delete(ERROR_FILE)


def is_worked_on_here(sweep: Sweep, trial: str) -> bool:
    """Whether what this node has of a trial is newer than the store's, and being written.

    Nothing may be put over it or removed then.
    """
    folder = sweep.trials_folder / trial
    return is_locked(folder / LOCK_FILE) or is_locked(folder / TRAINING_LOCK)


def fetch_outcomes(sweep: Sweep, trials: Iterable[str] | None = None) -> frozenset[str]:
    """Fetch the rows and errors of trials, and forget those that are no longer on the store.

    Those that are being worked on here are left alone: a row is written before it is published.

    Args:
        sweep: of the trials.
        trials: their ids; None for all, in one listing.

    Returns:
        Those that are being worked on here, as by a process that a killed driver has left: if
        there is a row of them, it is not on the store yet.

    Raises:
        OSError: if the store cannot be reached.
    """
    if sweep.remote is None:
        return frozenset()
    if trials is None:
        names = [trial.id for trial in sweep.trials]
        listed = list_trials(sweep)
    else:
        names = list(trials)
        listed = {name: (sweep.remote / "trials" / name).list() for name in names}
    wanted, skipped = [], set()
    for name in names:
        found = listed.get(name) or {}
        folder = sweep.trials_folder / name
        if is_worked_on_here(sweep, name):
            skipped.add(name)
            continue
        _drop_missing(folder, found)
        wanted += [
            f"trials/{name}/{file}"
            for file in (ROW_FILE, ERROR_FILE)
            if file in found and _size(folder / file) != found[file].size
        ]
    sweep.remote.download(wanted, sweep.folder)
    return frozenset(skipped)


def fetch_named(sweep: Sweep, names: Iterable[str]) -> None:
    """Fetch files of trials to look at, named ``<trial>/<file>``; those that are not there are not.

    Raises:
        OSError: if the store cannot be reached.
    """
    if sweep.remote is not None:
        (sweep.remote / "trials").download(names, sweep.trials_folder, missing_ok=True)


def fetch_pictures(sweep: Sweep) -> None:
    """Fetch what a report shows of single trials: pictures of samples, and training histories.

    Raises:
        OSError: if the store cannot be reached.
    """
    if sweep.remote is None:
        return
    lowest = min((trial.seed for trial in sweep.trials), default=None)  # a search begins with none
    shown = {trial.id for trial in sweep.trials if trial.seed == lowest}
    wanted = [
        f"trials/{trial}/{name}"
        for trial, files in list_trials(sweep).items()
        if trial in shown and not is_worked_on_here(sweep, trial)
        for name, stored in (files or {}).items()
        if _is_older(sweep.trials_folder / trial / name, stored)
    ]
    for name in (REAL_FILE, REAL_MAPS_FILE):
        if not is_file(sweep.folder / name) and sweep.remote.find(name) is not None:
            wanted.append(name)
    sweep.remote.download(wanted, sweep.folder)


def put_report(sweep: Sweep, folder: Path) -> str:
    """Put a report that was written into a folder of the sweep on the store.

    Returns:
        Where it is to be found.

    Raises:
        OSError: if the store cannot be reached, or refuses.
    """
    if sweep.remote is None:
        return str(folder)
    there = sweep.remote / folder.name
    files = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if is_file(p)]
    there.upload(files, folder)
    for name in there.list().keys() - set(files):  # of an older report
        there.delete(name)
    return str(there)


def _grown_curves(folder: Path, on_store: dict[str, StoredObject]) -> list[str]:
    """Event files that the store lacks, or has shorter; each belongs to one process of one node."""
    found = []
    for file, size in list_folder(folder / CURVES).items():
        name = f"{CURVES}/{file}"
        if size is not None and (name not in on_store or on_store[name].size < size):
            found.append(name)
    return found


def _drop_missing(folder: Path, found: dict[str, StoredObject]) -> None:
    """A row or an error of this node that the store does not have was never published."""
    for name in (ROW_FILE, ERROR_FILE):
        if name not in found:
            (folder / name).unlink(missing_ok=True)


def _is_older(path: Path, stored: StoredObject) -> bool:
    """Whether the store has a newer picture or history: one that differs, or has grown.

    A history that is longer here is of a node that could not reach the store.
    """
    size = _size(path)
    if path.name == HISTORY_FILE:
        return size is None or size < stored.size
    return is_picture(path.name) and size != stored.size


def _size(path: Path) -> int | None:
    return path.stat().st_size if is_file(path) else None


def _present(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if is_file(folder / name)]
