"""Runs a sweep's unfinished trials on Ray: Tune places trials, Train runs workers of one trial.

Ray's own state is scratch. What is done is decided by row files alone, what can be continued by
checkpoints in the trials' folders; Tune's pickles are never read back.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kod_bench.errors import UsageError, one_line
from kod_bench.results import Row, read_trial
from kod_bench.storage import Location
from kod_bench.sweeps.cluster.capacity import GroupRoom, alive_nodes, groups_on, wait_for_capacity
from kod_bench.sweeps.cluster.demand import Demand
from kod_bench.sweeps.cluster.guardian import guardian
from kod_bench.sweeps.cluster.ray_session import check_local_resources, ray_session
from kod_bench.sweeps.cluster.ray_trial import run_on_ray
from kod_bench.sweeps.cluster.ray_watch import RayWatch
from kod_bench.sweeps.cluster.share import WHOLE, Share
from kod_bench.sweeps.display.board import Board
from kod_bench.sweeps.plan.failures import read_error
from kod_bench.sweeps.plan.sweep import LOCK_FILE, Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.search.optuna_search import OptunaSearch
from kod_bench.sweeps.search.supply import TrialSupply
from kod_bench.sweeps.store.bring import GoneError, adopt_rows
from kod_bench.sweeps.store.create import check_writable
from kod_bench.sweeps.store.growth import grown, refreshed
from kod_bench.sweeps.store.lease import lease
from kod_bench.sweeps.store.locks import LockedError, exclusive_lock
from kod_bench.sweeps.store.mirror import fetch_outcomes, forget_error
from kod_bench.sweeps.store.scratch import scratch_folder
from kod_bench.sweeps.store.stopping import StopSignals, forget_request, requested_here

#: Longer than `kod-bench status` looks at the lock, shorter than a person waits for an answer.
DRIVER_PATIENCE_SECONDS = 1.0

#: More trials than any sweep will have.
ENDLESS = 10**9

#: On a cluster, trials whose process is lost, as with a spot machine, begin again so often.
SECOND_CHANCES = 3


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended."""

    sweep: Sweep  # with the trials that were chosen meanwhile
    done: int
    failures: dict[str, str]  # trial id to reason
    stopped: bool = False  # by a signal: failures are then those of trials that ran


def run_sweep(
    sweep: Sweep,
    board: Board,
    address: str | None = None,
    wait_for_nodes: float = 0.0,
    share: Share = WHOLE,
) -> Outcome:
    """Run every trial that has no row yet.

    Args:
        sweep: the plan.
        board: shows the progress.
        address: of a running Ray cluster ("auto" finds it); None starts Ray on this machine.
        wait_for_nodes: seconds to wait for a cluster to grow, if no trial fits on it yet.
        share: of this machine, without an address.

    Returns:
        How many trials of the whole sweep are done now, and why the others are not.

    Raises:
        UsageError: if another process runs this sweep, its folder cannot be written, or one trial
            asks for more than there is.
    """
    check_writable(sweep.folder)
    if sweep.remote is not None:
        check_writable(sweep.remote)
    try:
        with _only_driver(sweep, board):
            sweep = refreshed(sweep)
            board.add(trial for trial in sweep.trials if trial.id not in board.views)
            unpublished = fetch_outcomes(sweep)
            stopped = _run_pending(sweep, unpublished, board, address, wait_for_nodes, share)
            sweep = grown(sweep)
            fetch_outcomes(sweep)
    except LockedError as error:
        raise UsageError(
            f"{sweep.shown}: another process is running this sweep ({error})"
        ) from error
    missing = {
        trial.id: board.views[trial.id].reason or read_error(sweep.trial_folder(trial))
        for trial in sweep.trials
        # What the board has seen done need not be read again: of ten thousand, that takes a while.
        if board.views[trial.id].state != "done" and read_trial(sweep.trial_folder(trial)) is None
    }
    failures = {
        name: reason or "did not run" for name, reason in missing.items() if reason or not stopped
    }
    return Outcome(sweep, len(sweep.trials) - len(missing), failures, stopped)


@contextlib.contextmanager
def _only_driver(sweep: Sweep, board: Board) -> Iterator[None]:
    """Nobody else runs the sweep meanwhile, here or, if it is on an object store, elsewhere."""
    with exclusive_lock(sweep.folder / LOCK_FILE, DRIVER_PATIENCE_SECONDS):
        if sweep.remote is None:
            yield
        else:
            forget_request(sweep.folder)  # the lease would repeat it
            with lease(sweep.remote, board.note, lambda: requested_here(sweep.folder)):
                yield


def _run_pending(
    sweep: Sweep,
    unpublished: frozenset[str],
    board: Board,
    address: str | None,
    wait_for_nodes: float,
    share: Share,
) -> bool:
    """Run what has no row on the store, if there is one; True if a signal ended it early."""

    def rows_of(trial: Trial) -> list[Row] | None:
        # Whoever runs an unpublished one waits for the process that has it.
        return None if trial.id in unpublished else read_trial(sweep.trial_folder(trial))

    pending, adopted = [], 0
    for trial in sweep.trials:
        if (rows := rows_of(trial)) is not None:
            board.mark_done(trial.id, rows, earlier=True)
        elif trial.id not in unpublished and (rows := _adopted(sweep, trial, board)) is not None:
            forget_error(sweep, trial)
            board.mark_done(trial.id, rows, earlier=True)
            adopted += 1
        else:
            pending.append(trial)
    if adopted:
        board.note(f"{adopted} trials have adopted the rows of equal ones")
    search = None
    if sweep.growth is not None:
        search = OptunaSearch(sweep, rows_of, board.note)
    supply = TrialSupply(pending, search, board.add)
    if not supply.has_more():
        return False
    if address is None:
        check_local_resources(sweep.resources, share)
    place = "on this machine" if address is None else f"at {address}"
    begun = len(sweep.trials) - len(pending)
    board.note(f"running {sweep.total - begun} of {sweep.total} trials with Ray {place}")

    def on_death(name: str) -> None:
        board.__exit__(None, None, None)
        board.error(f"{name} has ended; finished trials are kept. {how_to_resume(sweep)}")
        os._exit(1)  # nothing that waits for Ray would ever return; files need no tidying

    with contextlib.ExitStack() as stack:
        if address is None:
            stack.enter_context(guardian())
            watch = RayWatch(on_death)
            watch.start()
            stack.callback(watch.stop)
        stack.enter_context(ray_session(address, share))
        if address is None:
            stack.enter_context(_until_shutdown(watch))
        # Before the stop signals: at a Ctrl-C here, there is no trial that could save anything.
        wait_for_capacity(sweep.resources, wait_for_nodes, board.note)
        signals = stack.enter_context(StopSignals(sweep.folder))
        stack.enter_context(board)
        for trial in pending:
            # The reason of an earlier failure must not pass for that of the attempt that begins.
            forget_error(sweep, trial)
        for chance in range(1 + SECOND_CHANCES):
            with _ray_files(sweep, address) as scratch:
                lost = _tune(sweep, supply, board, signals, scratch, address is not None)
            if not lost or address is None or supply.is_open or signals.requested:
                break
            again = [trial for trial in pending if trial.id in lost]
            if chance < SECOND_CHANCES:
                board.note(f"{len(again)} trial(s) lost their process or their turn; they go on")
                for trial in again:
                    forget_error(sweep, trial)
                    board.wait_again(trial)
                supply = TrialSupply(again, None, board.add)
    return signals.requested


def _adopted(sweep: Sweep, trial: Trial, board: Board) -> list[Row] | None:
    """The rows of an equal trial, now this one's; None if it has to be run."""
    try:
        return adopt_rows(sweep, trial)
    except (OSError, GoneError) as error:
        board.note(f"{trial.id}: rows are not adopted ({one_line(error)})")
        return None


@contextlib.contextmanager
def _until_shutdown(watch: RayWatch) -> Iterator[None]:
    try:
        yield
    except Exception:
        watch.stop(failed=True)
        raise
    finally:
        watch.stop()


def how_to_resume(sweep: Sweep) -> str:
    """The command that goes on with a sweep, as one says it."""
    return f"Continue with: {sweep.resume_command}"


@contextlib.contextmanager
def _ray_files(sweep: Sweep, address: str | None) -> Iterator[Location]:
    """Where Tune and Train keep files of their own while they run; nothing of ours is there."""
    if address is None:
        # Not on the results' disk: if that is full, trials fail and Tune does not.
        with scratch_folder() as folder:
            yield folder
        return
    # Where all nodes can write.
    shared = (sweep.remote or sweep.folder.resolve()) / "ray"
    _clear(shared)
    try:
        yield shared
    finally:
        _clear(shared)


def _clear(folder: Location) -> None:
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            folder.delete_all()


def _tune(
    sweep: Sweep,
    supply: TrialSupply,
    board: Board,
    signals: StopSignals,
    scratch: Location,
    on_cluster: bool,
) -> set[str]:
    """Run what the supply has; the ids of trials whose process died without a word."""
    from ray import tune

    from kod_bench.sweeps.cluster.tune_search import TrialQueue
    from kod_bench.sweeps.cluster.watcher import Silence, StopWhenSaved, Watcher

    watcher = Watcher(sweep, board, signals, supply.ended, may_shrink=on_cluster)

    resources = sweep.resources
    if resources.workers_per_trial == 1:
        request = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    else:
        # The trial itself only waits for its workers, which Train places; a CPU for it beside
        # theirs would deadlock a machine that has just enough for them.
        request = {"node:__internal_head__": 0.001}
    config: dict[str, Any] = {"sweep": str(sweep.location), "scratch": str(scratch)}
    if sweep.data_dir is not None:  # perhaps another than the plan's, by its user's will
        config["data_dir"] = str(sweep.data_dir)
    if sweep.donors:
        config["donors"] = json.dumps({was: str(now) for was, now in sweep.donors.items()})
    config["folder"] = str(Path.cwd())  # of the user's own modules
    # Of a group of workers, whatever the reason: Train does not tell a machine that went from a
    # loss that is not finite.
    config["restarts"] = str(1 + SECOND_CHANCES if on_cluster else 1)
    how: dict[str, Any] = {}
    queue: TrialQueue | None = None
    demand = Demand()
    in_groups = resources.workers_per_trial > 1
    if not on_cluster and (in_groups or supply.is_open):
        # Those of a search are chosen when there is room to run them, not before.
        how["max_concurrent_trials"] = groups_on(alive_nodes(), resources)
    if supply.is_open or (on_cluster and in_groups):
        # Trials of one worker wait for room by themselves, and a cluster may grow for them.
        room = None
        if on_cluster and in_groups:
            room = GroupRoom(resources, lambda: len(supply.pending) + supply.is_open, demand)

        def may_begin(running: int) -> bool:
            if signals.requested or not supply.published():
                return False
            return room is None or room.is_there(running)

        queue = TrialQueue(supply, may_begin, board.note)
        how["search_alg"] = queue
        how["num_samples"] = ENDLESS  # the queue says when it is finished
    else:
        config["id"] = tune.grid_search([trial.id for trial in supply.pending])
    tuner = tune.Tuner(
        tune.with_resources(run_on_ray, request),
        param_space=config,
        tune_config=tune.TuneConfig(
            **how,
            # Importing torch costs seconds: once per process, not per trial. But the most memory
            # that a process of a rehearsal held is to be one trial's.
            reuse_actors=sweep.rehearsal is None,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            verbose=0,
            callbacks=[watcher, Silence()],
            stop=StopWhenSaved(watcher),
        ),
    )
    try:
        with demand:
            tuner.fit()
    except RuntimeError as error:
        watcher.memory_ran_out(error)
        watcher.lost |= {t.id for t in supply.pending if board.views[t.id].state == "waiting"}
    if queue is not None and queue.gave_up is not None:
        raise queue.gave_up  # running trials have ended well; the search has not
    return watcher.lost
