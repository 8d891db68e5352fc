"""The state of a sweep, read from its files alone: it need not be running, or be here."""

from kod_bench.results import read_trial
from kod_bench.sweeps.failures import read_error
from kod_bench.sweeps.locks import is_locked
from kod_bench.sweeps.plan import LOCK_FILE, Sweep, Trial
from kod_bench.sweeps.progress import Status
from kod_bench.sweeps.standing import TrialView
from kod_bench.sweeps.subject import CHECKPOINTS
from kod_bench.sweeps.trial import HISTORY_FILE
from kod_bench.training import CheckpointStore
from kod_bench.training.history import read_history


def is_running(sweep: Sweep) -> bool:
    """Whether a process holds the sweep's lock on this machine."""
    return is_locked(sweep.folder / LOCK_FILE)


def trial_views(sweep: Sweep) -> list[TrialView]:
    """Every trial's state: done, failed, running, interrupted or waiting."""
    return [_view(sweep, trial) for trial in sweep.trials]


def _view(sweep: Sweep, trial: Trial) -> TrialView:
    folder = sweep.trial_folder(trial)
    if (rows := read_trial(folder)) is not None:
        return TrialView(trial, "done", rows=rows)
    if (reason := read_error(folder)) is not None:
        return TrialView(trial, "failed", reason=reason)
    if not folder.is_dir():
        return TrialView(trial)
    records = read_history(folder / HISTORY_FILE)
    last = records[-1] if records else {}
    status = Status(
        "training",
        done=int(last.get("iteration", 0)),
        total=trial.training_section.iterations,
        loss=last.get("loss"),
    )
    if is_locked(folder / LOCK_FILE):
        return TrialView(trial, "running", status)
    saved = CheckpointStore(folder / CHECKPOINTS).latest_iteration()
    return TrialView(trial, "interrupted", Status("training", saved, status.total, status.loss))
