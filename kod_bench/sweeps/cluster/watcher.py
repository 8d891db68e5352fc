"""Carries what Tune learns of its trials to the board."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback

from kod_bench.errors import UsageError
from kod_bench.results import Row, read_trial
from kod_bench.sweeps.cluster.capacity import alive_nodes, check_capacity
from kod_bench.sweeps.display.board import Board
from kod_bench.sweeps.plan.failures import read_error, root_message, write_error
from kod_bench.sweeps.plan.progress import Status
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.store.mirror import fetch_outcomes, put_error
from kod_bench.sweeps.store.stopping import StopSignals

#: Between looks at a cluster's nodes.
_LOOK_SECONDS = 30.0


class Watcher(tune.Callback):
    """A Tune callback, called in the driver.

    Args:
        sweep: where the trials' folders are.
        board: shows them.
        signals: that may stop the sweep.
        ended: told of every trial that has: its id, its rows, or why it has failed.
        may_shrink: whether nodes may go, so that no trial fits any longer.

    Attributes:
        lost: ids of trials whose process has died without a word.
    """

    def __init__(
        self,
        sweep: Sweep,
        board: Board,
        signals: StopSignals,
        ended: Callable[[str, list[Row] | None, str | None], None],
        may_shrink: bool = False,
    ) -> None:
        self._sweep = sweep
        self._board = board
        self._signals = signals
        self._tell = ended
        self._announced = False
        self._active: set[str] = set()  # ids of trials that have said what they do
        self._began: dict[str, tuple[float, Any]] = {}  # name to start and Tune trial
        self._overdue: set[str] = set()
        self._may_shrink = may_shrink
        self._looked = time.monotonic()
        self._too_small = False
        self.lost: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks for a restore that never happens here; a terminal cannot be.
        return {}

    @property
    def may_end(self) -> bool:
        """Whether the sweep was told to stop and no trial has anything left to save."""
        return self._signals.requested and not self._active

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """Called several times a second."""
        if self._signals.requested and not self._announced:
            self._announced = True
            self._board.note("stopping: trials save where they are; again to stop at once")
        now = time.monotonic()
        if self._may_shrink and now - self._looked > _LOOK_SECONDS:
            self._looked = now
            self._look_at_nodes()
        limit = self._sweep.resources.time_limit_minutes
        if limit is None:
            return
        for name, (began, trial) in self._began.items():
            if now - began > 60 * limit and name not in self._overdue:
                self._overdue.add(name)
                # Not a request: a process that hangs answers none.
                ray.kill(trial.temporary_state.ray_actor)

    def _look_at_nodes(self) -> None:
        """Nothing moves while no trial fits: whoever watches must learn why, once."""
        try:
            check_capacity(self._sweep.resources, alive_nodes(), "the Ray cluster")
        except UsageError as error:
            if not self._too_small:
                self._board.note(f"waiting for nodes: {error}")
            self._too_small = True
        else:
            if self._too_small:
                self._board.note("there are nodes again")
            self._too_small = False

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """The trial has a process."""
        self._began[trial.config["id"]] = (time.monotonic(), trial)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """The trial reported its status."""
        if "status" in result:
            self._active.add(trial.config["id"])
            self._board.update(trial.config["id"], Status.from_json(result["status"]))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """The trial returned: done, or stopped."""
        name = self._ended(trial)
        self._fetch(name)
        rows = read_trial(self._sweep.trials_folder / name)
        if rows is not None:
            self._board.mark_done(name, rows)
        elif name in self._board.running:
            self._board.mark_stopped(name)
        self._tell(name, rows, None)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """The trial raised, or its process died."""
        self._failed(self._ended(trial), _error_of(trial))

    def memory_ran_out(self, error: RuntimeError) -> None:
        """Tune has ended all trials because Ray killed one for the memory that it took.

        On machines of ours Ray does not (`ray_session`); a cluster of others may.

        Raises:
            RuntimeError: the error, if it is another one.
        """
        if not isinstance(error.__cause__, ray.exceptions.OutOfMemoryError):
            raise error
        for name in list(self._began):
            self._active.discard(name)
            del self._began[name]
            self._failed(name, error.__cause__)

    def _failed(self, name: str, error: BaseException | None) -> None:
        self._fetch(name)
        folder = self._sweep.trials_folder / name
        reason = read_error(folder)  # as the trial itself recorded it, in this attempt
        if reason is None:
            if name in self._overdue:
                limit = self._sweep.resources.time_limit_minutes
                error = TimeoutError(f"over resources.time_limit_minutes ({limit:g}), ended")
            elif error is None or isinstance(error, _LOST):
                self.lost.add(name)
                error = RuntimeError("its process ended without a word: killed, or out of memory")
            reason = root_message(error)
            write_error(folder, error)
            put_error(self._sweep, name)
        self._board.mark_failed(name, reason)
        self._tell(name, None, reason)

    def _ended(self, trial: Any) -> str:
        name: str = trial.config["id"]
        self._active.discard(name)
        self._began.pop(name, None)
        return name

    def _fetch(self, trial: str) -> None:
        """An object store that is away must not end the sweep: its outcomes are fetched again."""
        with contextlib.suppress(OSError):
            fetch_outcomes(self._sweep, [trial])


def _error_of(trial: Any) -> BaseException | None:
    """What Tune has caught, from the driver's own disk: in its storage it is only later."""
    try:
        with Path(trial.pickled_error_file).open("rb") as file:
            error = ray.cloudpickle.load(file)
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None


#: How Ray says that a process is gone: of a node that has just vanished, it knows no more than that
#: the process is not to be reached.
_LOST = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)


class StopWhenSaved(tune.Stopper):
    """Ends Tune's run once the watcher says that nothing is left to save."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def __getstate__(self) -> dict[str, Any]:
        return {}  # see Watcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial ends alone."""
        return False

    def stop_all(self) -> bool:
        """Asked after every event."""
        return self._watcher.may_end


class Silence(TrialProgressCallback):
    """Stands where Tune would put its own, which prints trials that have ended without a report."""

    def on_trial_result(self, *args: Any, **info: Any) -> None:
        """The board says it."""

    def on_trial_error(self, *args: Any, **info: Any) -> None:
        """The board says it."""

    def on_trial_complete(self, *args: Any, **info: Any) -> None:
        """The board says it."""
