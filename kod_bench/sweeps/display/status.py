"""The state of a sweep, read from its files alone: it need not be running, or be here.

A sweep of ten thousand trials answers in seconds because their files are listed, not read: here a
trial counts as done if its row file is there and not empty. `resume` and `report` read every row,
and say so where one cannot be read; of the trials that are shown, the rows are read here too.
"""

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kod_bench.results import ROW_FILE, read_trial
from kod_bench.storage import StoredObject
from kod_bench.sweeps.display.standing import TrialView
from kod_bench.sweeps.plan.failures import ERROR_FILE, read_error
from kod_bench.sweeps.plan.files import HISTORY_FILE
from kod_bench.sweeps.plan.progress import Status
from kod_bench.sweeps.plan.sweep import LOCK_FILE, Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.store.lease import is_held
from kod_bench.sweeps.store.listing import list_trials, saved_iteration
from kod_bench.sweeps.store.locks import is_locked
from kod_bench.sweeps.store.mirror import fetch_named, is_worked_on_here
from kod_bench.training.history import last_record

_THREADS = 8
_log = logging.getLogger(__name__)


def is_running(sweep: Sweep) -> bool:
    """Whether a process holds the sweep: on this machine, or anywhere if it is on a store."""
    return is_locked(sweep.folder / LOCK_FILE) if sweep.remote is None else is_held(sweep.remote)


def trial_views(sweep: Sweep) -> list[TrialView]:
    """Every trial's state, without its numbers.

    It is done, failed, running, interrupted, unreadable or waiting. On an object store, where
    trials hold no locks, those that were begun and have not ended count as running while somebody
    runs the sweep.

    Raises:
        OSError: if the store cannot be reached.
    """
    listed = list_trials(sweep)
    remotely = sweep.remote is not None and is_running(sweep)
    return [
        _view(sweep, trial, listed[trial.id], remotely) if trial.id in listed else TrialView(trial)
        for trial in sweep.trials
    ]


def _view(
    sweep: Sweep, trial: Trial, files: Mapping[str, StoredObject] | None, remotely: bool
) -> TrialView:
    if files is None:
        return TrialView(trial, "unreadable")
    if (row := files.get(ROW_FILE)) is not None:
        return TrialView(trial, "done" if row.size else "unreadable")
    if ERROR_FILE in files:
        return TrialView(trial, "failed")
    said = trial.training.get("iterations")  # a plan may come from anywhere
    total = said if isinstance(said, int) else 0
    if remotely or is_locked(sweep.trial_folder(trial) / LOCK_FILE):
        return TrialView(trial, "running", Status("training", 0, total))
    return TrialView(trial, "interrupted", Status("training", saved_iteration(files), total))


def read_details(sweep: Sweep, views: Iterable[TrialView]) -> None:
    """Fill in what is shown of trials: scores, progress, the reason of a failure.

    Raises:
        OSError: if the store cannot be reached.
    """
    views = list({view.trial.id: view for view in views}.values())
    files = {"done": ROW_FILE, "failed": ERROR_FILE}
    fetch_named(
        sweep,
        [
            f"{view.trial.id}/{files.get(view.state, HISTORY_FILE)}"
            for view in views
            if view.state != "waiting" and not is_worked_on_here(sweep, view.trial.id)
        ],
    )
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(lambda view: _read(sweep, view), views):
            pass


def _read(sweep: Sweep, view: TrialView) -> None:
    folder = sweep.trial_folder(view.trial)
    if view.state == "done":
        rows = read_trial(folder)
        if rows is None:
            view.state = "unreadable"
            _log.warning("%s cannot be read; resume computes it again", folder / ROW_FILE)
        view.rows = rows or []
    elif view.state == "failed":
        view.reason = read_error(folder)
    elif (status := view.status) is not None and (last := _last_record(folder)) is not None:
        done = int(last["iteration"]) if view.state == "running" else status.done
        view.status = Status(status.phase, done, status.total, last.get("loss"))


def _last_record(folder: Path) -> dict[str, Any] | None:
    try:
        return last_record(folder / HISTORY_FILE)
    except OSError as error:
        _log.warning("%s", error)
        return None
