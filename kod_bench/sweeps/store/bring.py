"""Brings what a trial reuses into its own folder: a model, stored samples, or whole rows.

A file is linked where the disk lets it (checkpoints and shards are only ever replaced as a whole,
so one that has two names is safe), and copied elsewhere. From then on the trial stands by itself:
the one that it came from may be removed.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import astuple, replace
from pathlib import Path

from kod_bench.atomic import atomic_write
from kod_bench.errors import one_line
from kod_bench.inside import (
    MOST_CHECKPOINT,
    MOST_HISTORY,
    MOST_PICTURE,
    MOST_RECORD,
    MOST_SHARD,
    child,
    is_there,
    list_folder,
    open_file,
)
from kod_bench.results import Row, is_picture, write_rows
from kod_bench.sampling import MANIFEST_FILE, Way, shard_index
from kod_bench.storage import Location, ObjectFolder
from kod_bench.sweeps.plan.files import (
    CHECKPOINTS,
    HISTORY_FILE,
    MEMORY_FILE,
    RUNGS_FILE,
    SAMPLES,
)
from kod_bench.sweeps.plan.reuse import Reused
from kod_bench.sweeps.plan.sweep import LOCK_FILE, Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.store.locks import LockedError, exclusive_lock
from kod_bench.sweeps.store.mirror import publish_rows
from kod_bench.sweeps.store.rows import rows_at
from kod_bench.sweeps.store.samples import fetch_shards, put_files
from kod_bench.training import CheckpointStore, checkpoint_name

_PIECE = 64 * 2**20
_RECORDS = {HISTORY_FILE: MOST_HISTORY, MEMORY_FILE: MOST_RECORD, RUNGS_FILE: MOST_RECORD}


class GoneError(RuntimeError):
    """What a trial would reuse is not there any more, or is not what it was."""


def bring_model(sweep: Sweep, trial: Trial) -> None:
    """Put the model that a trial reuses, and its stored samples, into the trial's folder.

    Nothing is done for a trial that reuses none, or that has it already.

    Raises:
        GoneError: in one line, if the model is not there or cannot be read.
        OSError: if a disk or store cannot be reached.
    """
    reused = trial.reused
    folder = sweep.trial_folder(trial)
    own = CheckpointStore(folder / CHECKPOINTS)
    if reused is None or own.latest_iteration() >= reused.iterations:
        return
    there = _place(sweep, reused)
    checkpoint = f"{CHECKPOINTS}/{checkpoint_name(reused.iterations)}"
    if not _has(there, checkpoint):
        raise GoneError(
            f"{there}/{checkpoint}: the model that this trial reuses is gone; {_mend()}"
        )
    _take(there, _RECORDS, folder, copied=True)
    if reused.is_trained:
        _bring_samples(sweep, trial, there)
    # Last: where it is, all is.
    _take(there, {checkpoint: MOST_CHECKPOINT}, folder)
    state = own.load_latest()
    if state is None or state.get("iteration") != reused.iterations:
        (folder / checkpoint).unlink(missing_ok=True)
        raise GoneError(
            f"{there}/{checkpoint}: the model that this trial reuses is damaged; {_mend()}"
        )


def adopt_rows(sweep: Sweep, trial: Trial) -> list[Row] | None:
    """Write the rows of the trial that a trial equals as its own, with all that belongs to them.

    Returns:
        The rows; None if the trial adopts none, or they are not there: then it is to be run.

    Raises:
        OSError: if a disk or store cannot be reached.
    """
    reused, folder = trial.reused, sweep.trial_folder(trial)
    if reused is None or reused.kind != "row" or reused.sweep not in sweep.donors:
        return None
    there = _place(sweep, reused)
    rows = rows_at(there)
    if rows is None or {(row.trained_hash, row.scored_hash) for row in rows} != {
        (trial.trained_hash, trial.scored_hash)
    }:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive_lock(folder / LOCK_FILE, 0.0):
            pictures = dict.fromkeys(filter(is_picture, _names(there)), MOST_PICTURE)
            _take(there, _RECORDS | pictures, folder, copied=True)
            if trial.evaluation_options.keep_samples != "none":
                _bring_samples(sweep, trial, there)
            checkpoint = f"{CHECKPOINTS}/{checkpoint_name(reused.iterations)}"
            _take(there, {checkpoint: MOST_CHECKPOINT}, folder)
            rows = [_own(row, sweep, trial, reused) for row in rows]
            write_rows(folder, rows)
            publish_rows(sweep, trial)
    except LockedError:  # a process that a killed driver has left is at it
        return None
    return rows


def _own(row: Row, sweep: Sweep, trial: Trial, reused: Reused) -> Row:
    return replace(
        row,
        space=sweep.space,
        sweep=sweep.name,
        trial=trial.id,
        model=trial.model,
        config=trial.config,
        config_hash=trial.config_hash,
        reused=reused.shown,
    )


def _mend() -> str:
    return "put it back and resume, or train anew: kod-bench sweep"


def _place(sweep: Sweep, reused: Reused) -> Location:
    place = sweep.donors.get(reused.sweep)
    if place is None:
        raise GoneError(
            f"{reused.sweep}: the sweep whose model this trial reuses is not there; name where it "
            f"is now: kod-bench resume {sweep.shown} --reuse PLACE"
        )
    if isinstance(place, Path):
        return child(place, "trials", reused.trial)
    return place / "trials" / reused.trial


def _names(there: Location) -> list[str]:
    """Of what lies directly in a trial's folder."""
    if isinstance(there, Path):
        return [name for name, size in list_folder(there).items() if size is not None]
    return [name for name in there.list() if "/" not in name]


def _has(there: Location, name: str) -> bool:
    if isinstance(there, Path):
        folder, _, file = name.rpartition("/")
        return list_folder(there / folder).get(file) is not None
    return there.find(name) is not None


def _bring_samples(sweep: Sweep, trial: Trial, there: Location) -> None:
    """The shards of the ways that are scored; whose they are is seen where they are read."""
    folder = sweep.trial_folder(trial)
    for scoring in trial.scorings:
        way = Way(*astuple(scoring)).name
        inside = there / SAMPLES / way
        found = [name for name in _names(inside) if shard_index(name) is not None]
        if sweep.remote is not None:  # what another node has put there is as good
            fetch_shards(sweep, trial, way, found)
        missing = [name for name in found if not is_there(folder / SAMPLES / way / name)]
        wanted = dict.fromkeys(missing, MOST_SHARD) | {MANIFEST_FILE: MOST_RECORD}
        _take(inside, wanted, folder / SAMPLES / way)
        put_files(sweep, trial, [f"{SAMPLES}/{way}/{name}" for name in missing])


def _take(there: Location, names: dict[str, int], folder: Path, copied: bool = False) -> None:
    """Take files under the same names; those that are not there are not.

    Args:
        there: where they are.
        names: of the files, with their largest sizes.
        folder: where they are to be.
        copied: whether they must not be the same files: they are written into, or go on to grow.
    """
    if isinstance(there, ObjectFolder):
        _fetch(there, names, folder)
        return
    for name, most in names.items():
        target = folder / name
        with contextlib.suppress(FileNotFoundError), open_file(there / name, most) as file:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not copied:
                try:
                    os.link(there / name, target, follow_symlinks=False)
                    continue
                except FileExistsError:
                    continue
                except OSError:  # another disk, or one without links; or a file of somebody else's
                    pass
            with atomic_write(target) as copy:
                shutil.copyfileobj(file, copy, _PIECE)


def _fetch(there: ObjectFolder, names: Iterable[str], folder: Path) -> None:
    try:
        there.download(names, folder, missing_ok=True)
    except OSError as error:
        raise OSError(f"{there}: cannot be read ({one_line(error)})") from error
