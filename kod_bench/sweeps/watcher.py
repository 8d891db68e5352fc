"""Carries what Tune learns of its trials to the board."""

from typing import Any

import ray
from ray import tune

from kod_bench.results import read_trial
from kod_bench.sweeps.board import Board
from kod_bench.sweeps.failures import read_error, root_message, write_error
from kod_bench.sweeps.plan import Sweep
from kod_bench.sweeps.progress import Status


class Watcher(tune.Callback):
    """A Tune callback, called in the driver.

    Args:
        sweep: where the trials' folders are.
        board: shows them.
    """

    def __init__(self, sweep: Sweep, board: Board) -> None:
        self._sweep = sweep
        self._board = board

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks for a restore that never happens here; a terminal cannot be.
        return {}

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """The trial reported its status."""
        if "status" in result:
            self._board.update(trial.config["id"], Status.from_json(result["status"]))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """The trial returned."""
        rows = read_trial(self._sweep.trials_folder / trial.config["id"])
        if rows is not None:
            self._board.mark_done(trial.config["id"], rows)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """The trial raised, or its process died."""
        folder = self._sweep.trials_folder / trial.config["id"]
        reason = read_error(folder)  # as the trial itself recorded it, in this attempt
        if reason is None:
            error = trial.get_pickled_error()
            if error is None or isinstance(error, ray.exceptions.ActorDiedError):
                error = RuntimeError("its process ended without a word: killed, or out of memory")
            reason = root_message(error)
            write_error(folder, error)
        self._board.mark_failed(trial.config["id"], reason)
