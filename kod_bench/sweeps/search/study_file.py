"""The Optuna study in a sweep's folder: what a search has tried, for people and their tools.

``study.journal`` is the file of an Optuna `JournalStorage`, JSON lines::

    optuna-dashboard results/study/20260101-000000/study.journal

It is written, never obeyed: what a search does next follows from the plan and the row files alone.
So a file that is damaged, or was lost, is made again from these, and one from a stranger chooses
nothing.
"""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kod_bench.inside import MOST_PLAN, is_file, open_to_change, read_bytes
from kod_bench.sweeps.plan.files import STUDY_LOCK
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.search.study_lock import StudyLock

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import JournalStorage
    from optuna.trial import TrialState

STUDY_FILE = "study.journal"
_DAMAGED_FILE = f"{STUDY_FILE}.damaged"
#: Where a trial of the study says which trials of the sweep it is, one of each seed.
TRIALS = "trials"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """One point, as the study shows it.

    Attributes:
        study: its name.
        trials: ids of the sweep's trials.
        parameters: by name.
        distributions: likewise.
        state: running; waiting, if `resume` has to try again; or an end.
        values: of the objectives, where it is complete.
        notes: whatever else is to be shown.
        steps: values on the way, by iteration.
    """

    study: str
    trials: tuple[str, ...]
    parameters: Mapping[str, Any]
    distributions: "Mapping[str, BaseDistribution]"
    state: "TrialState"
    values: Sequence[float] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    steps: Mapping[int, float] = field(default_factory=dict)


class StudyFile:
    """The study of one sweep, written by its driver, which holds the sweep's lock.

    A disk or a store that refuses ends no sweep: the next `resume` brings the file up to date.

    Args:
        sweep: in whose folder it is.
        directions: of each objective, "minimize" or "maximize".
        names: of the studies.
    """

    def __init__(self, sweep: Sweep, directions: Sequence[str], names: Sequence[str]) -> None:
        import optuna

        self._sweep = sweep
        self._path = sweep.folder / STUDY_FILE
        self._directions = [optuna.study.StudyDirection[each.upper()] for each in directions]
        self._studies: dict[str, int] = {}
        self._trials: dict[tuple[str, ...], tuple[int, Any]] = {}  # to number and state
        self._storage: JournalStorage | None = None
        with self._forgiving():
            if sweep.remote is not None:
                sweep.remote.download([STUDY_FILE], sweep.folder, missing_ok=True)
            (sweep.folder / STUDY_LOCK).unlink(missing_ok=True)  # of a driver that was killed
            self._cut_to_whole_lines()
            try:
                if self._path.exists() and not is_file(self._path):
                    raise TypeError("not a regular file")  # Optuna would wait for a pipe's writer
                self._storage = self._open(names)
            except OSError:
                raise
            except Exception as error:  # whatever a reader makes of a file that is damaged
                _log.warning("%s is damaged (%s) and made again", self._path, error)
                self._path.replace(sweep.folder / _DAMAGED_FILE)
                self._storage = self._open(names)

    def put(self, *records: Record) -> None:
        """Write points, or what has become of them."""
        changed = False
        with self._forgiving():
            for record in records:
                changed |= self._put(record)
            if changed and self._sweep.remote is not None:
                self._sweep.remote.upload([STUDY_FILE], self._sweep.folder)

    def _put(self, record: Record) -> bool:
        """Whether anything was new. What has ended in the file has ended."""
        import optuna

        if (storage := self._storage) is None:
            return False
        known = self._trials.get(record.trials)
        if known is not None and (known[1].is_finished() or known[1] == record.state):
            return False
        if known is None:
            begun = record.state if record.state.is_finished() else optuna.trial.TrialState.RUNNING
            template = optuna.trial.create_trial(
                state=begun,
                params=dict(record.parameters),
                distributions=dict(record.distributions),
                values=record.values,
                user_attrs={TRIALS: list(record.trials), **record.notes},
                intermediate_values=dict(record.steps),
            )
            number = storage.create_new_trial(self._studies[record.study], template)
            known = (number, begun)
        else:
            for name, text in record.notes.items():
                storage.set_trial_user_attr(known[0], name, text)
            for step, value in record.steps.items():
                storage.set_trial_intermediate_value(known[0], step, value)
        if known[1] != record.state:
            storage.set_trial_state_values(known[0], record.state, record.values)
        self._trials[record.trials] = (known[0], record.state)
        return True

    def _open(self, names: Sequence[str]) -> "JournalStorage":
        from optuna.exceptions import DuplicatedStudyError
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        lock: Any = StudyLock(self._path)
        storage = JournalStorage(JournalFileBackend(str(self._path), lock))
        self._studies, self._trials = {}, {}
        for name in names:
            try:
                number = storage.create_new_study(self._directions, name)
            except DuplicatedStudyError:
                number = storage.get_study_id_from_name(name)
            self._studies[name] = number
            for trial in storage.get_all_trials(number, deepcopy=False):
                self._trials[tuple(trial.user_attrs[TRIALS])] = (trial._trial_id, trial.state)
        return storage

    def _cut_to_whole_lines(self) -> None:
        """A line that a killed driver has left half-written would spoil the next one."""
        if is_file(self._path):
            content = read_bytes(self._path, MOST_PLAN)
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                with open_to_change(self._path) as file:
                    file.truncate(whole)

    @contextlib.contextmanager
    def _forgiving(self) -> Any:
        try:
            yield
        except OSError as error:
            _log.warning("%s: not all could be written: %s", self._path, error)
