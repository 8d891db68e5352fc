"""What Ray runs of a trial, in processes of its own: the trial itself, and its group of workers."""

import contextlib
import faulthandler
import functools
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kod_bench.errors import one_line
from kod_bench.evaluation import look_for_modules_in
from kod_bench.freed_memory import keep_freed_memory
from kod_bench.results import Row
from kod_bench.storage import parse_location
from kod_bench.sweeps.cluster.idle_room import (
    HELPER_MARK,
    Helpers,
    asked_to_give_way,
    idle_room,
)
from kod_bench.sweeps.plan.failures import root_message
from kod_bench.sweeps.plan.files import TRAINING_LOCK
from kod_bench.sweeps.plan.make import current_code
from kod_bench.sweeps.plan.progress import Report, Status
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.store.locks import exclusive_lock
from kod_bench.sweeps.store.open import open_planned
from kod_bench.sweeps.store.stopping import stop_requested
from kod_bench.sweeps.trial.drawing import Part
from kod_bench.sweeps.trial.progress import DrawingProgress
from kod_bench.sweeps.trial.rehearsed import noting
from kod_bench.sweeps.trial.run import (
    draw_trained,
    open_log,
    run_trial,
    score_trained,
    train_and_score,
    train_worker,
)
from kod_bench.training import StoppedError

#: A killed driver's workers live on for some seconds.
WRITER_PATIENCE_SECONDS = 60.0

#: How often the trial's own process looks how far its workers have drawn.
_LOOK_SECONDS = 2.0
_log = logging.getLogger(__name__)


def run_on_ray(config: dict[str, str]) -> None:
    """The Tune trainable: finds its trial in the plan and runs it."""
    from ray import tune

    sweep, trial = _planned(config)

    def report(status: Status) -> None:
        tune.report({"status": status.to_json()})

    helpers = _helpers(sweep, _config(sweep, trial, config["folder"]))

    def report_and_look(status: Status) -> None:
        report(status)
        helpers.look(status)

    in_workers = functools.partial(
        _run_workers,
        helpers=helpers,
        folder=config["folder"],
        scratch=config["scratch"],
        restarts=int(config["restarts"]),
    )
    execute = train_and_score if sweep.workers_of(trial) == 1 else in_workers
    try:
        with (
            contextlib.suppress(StoppedError),
            _says_where_it_hangs(sweep, trial),
            noting(sweep, trial, "trial"),
        ):
            run_trial(sweep, trial, report_and_look, execute)
    finally:
        helpers.end()


def _planned(config: dict[str, str]) -> tuple[Sweep, Trial]:
    """The trial of a process that Ray has started, wherever that is."""
    location = parse_location(config["sweep"])
    if isinstance(location, Path) and not location.is_dir():
        raise FileNotFoundError(
            f"{location} is not on {socket.gethostname()}: on a cluster, --results-dir must be on "
            "a disk that all nodes share, or at s3:// or gs://"
        )
    look_for_modules_in(Path(config["folder"]))
    sweep, trial = open_planned(location, config["id"])
    if (data_dir := config.get("data_dir")) is not None:
        sweep = replace(sweep, data_dir=parse_location(data_dir))
    donors = json.loads(config.get("donors", "{}"))
    if trial.reused is not None:
        sweep = replace(sweep, donors={was: parse_location(now) for was, now in donors.items()})
    torch.set_num_threads(sweep.resources.cpus_per_worker)
    keep_freed_memory()
    return sweep, trial


@contextlib.contextmanager
def _says_where_it_hangs(sweep: Sweep, trial: Trial) -> Iterator[None]:
    """Just before the driver ends the trial for its time, write what its threads do to its log."""
    limit = sweep.resources.time_limit_minutes
    if limit is None:
        yield
        return
    folder = sweep.trial_folder(trial)
    folder.mkdir(parents=True, exist_ok=True)
    with open_log(folder) as log:
        faulthandler.dump_traceback_later(0.9 * 60 * limit, file=log)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _run_workers(
    sweep: Sweep,
    trial: Trial,
    report: Report,
    *,
    helpers: Helpers,
    folder: str,
    scratch: str,
    restarts: int,
) -> list[Row]:
    """Train a trial with several workers, draw with all of them, score where one has room.

    The trial's own process has neither CPU nor GPU of Ray's to work with.
    """
    import ray

    config = _config(sweep, trial, folder)
    if trial.model_of is None:
        _train_workers(sweep, trial, report, config, scratch, restarts)
    if stop_requested(sweep):  # whoever waits for that has no time for processes that find out
        raise StoppedError("stopped before sampling")
    _draw_in_workers(sweep, trial, report, config, helpers)
    report(Status("scoring"))
    rows: list[Row] = ray.get(_as_worker(sweep, _score_on_ray).remote(config))
    return rows


def _as_worker(sweep: Sweep, what: Callable[..., Any], **options: Any) -> Any:
    """A task or an actor of Ray's that occupies what one worker asks for."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    r = sweep.resources
    return ray.remote(
        num_cpus=r.cpus_per_worker,
        num_gpus=r.gpus_per_worker,
        # Outside the trial's own placement group, which holds nothing to compute with.
        scheduling_strategy=PlacementGroupSchedulingStrategy(None),  # type: ignore[arg-type]
        **options,
    )(what)


def _helpers(sweep: Sweep, config: dict[str, str]) -> Helpers:
    """Those that help a trial to draw."""
    code = {"code": current_code()}

    def start(number: int) -> Any:
        # Marked, so that one that waits for its room is not taken for somebody who needs it.
        return _as_worker(sweep, _Helper, memory=HELPER_MARK).remote(config | code, number)

    return Helpers(start, lambda: idle_room(sweep.resources))


class _Helper:
    """An actor that draws shards of a trial's samples for as long as nobody waits for its room."""

    def __init__(self, config: dict[str, str], number: int) -> None:
        self._config, self._number = config, number

    def ready(self) -> None:
        """It has begun: answered before `draw`, if asked before."""

    def draw(self) -> bool:
        """Draw until nothing is missing, or somebody waits; False if it cannot be of any help."""
        sweep, trial = _planned(self._config)
        if current_code() != self._config["code"]:
            # It would put shards in the place of good ones that the trial could not read.
            return False
        gives_way = asked_to_give_way(sweep.resources)
        draw_trained(sweep, trial, Part(self._number, helps=True, gives_way=gives_way))
        return True


def _draw_in_workers(
    sweep: Sweep, trial: Trial, report: Report, config: dict[str, str], helpers: Helpers
) -> None:
    """Draw the trial's samples with as many processes as have trained it, and those that help.

    One that dies ends nothing: the others draw its share, Ray starts it again (by default three
    times), and what is missing in the end is drawn by whoever scores.
    """
    import ray

    lost = (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.NodeDiedError,
        ray.exceptions.OutOfMemoryError,
    )
    draw, workers = _as_worker(sweep, _draw_on_ray), sweep.workers_of(trial)
    waiting = [draw.remote(config, worker, workers) for worker in range(workers)]
    progress = DrawingProgress(sweep, trial)
    status = progress.status()
    while waiting or (status is not None and helpers.at_work):
        if waiting:
            ended, waiting = ray.wait(waiting, timeout=_LOOK_SECONDS)
        else:  # for the last shards of those that help
            ended = []
            time.sleep(_LOOK_SECONDS)
        for each in ended:
            try:
                ray.get(each)
            except lost as error:
                _log.warning("one that drew samples was lost: %s", one_line(error))
        if (status := progress.status()) is not None:
            report(status)


def _draw_on_ray(config: dict[str, str], worker: int, workers: int) -> None:
    sweep, trial = _planned(config)
    draw_trained(sweep, trial, Part(worker, workers))


def _config(sweep: Sweep, trial: Trial, folder: str) -> dict[str, str]:
    """What `_planned` needs in another process."""
    place = {} if sweep.data_dir is None else {"data_dir": str(sweep.data_dir)}
    if sweep.donors:
        place["donors"] = json.dumps({was: str(now) for was, now in sweep.donors.items()})
    return {"id": trial.id, "sweep": str(sweep.location), "folder": folder, **place}


def _score_on_ray(config: dict[str, str]) -> list[Row]:
    sweep, trial = _planned(config)
    with noting(sweep, trial, "scoring"):
        return score_trained(sweep, trial, lambda _: None)


def _train_workers(
    sweep: Sweep,
    trial: Trial,
    report: Report,
    config: dict[str, str],
    scratch: str,
    restarts: int,
) -> None:
    """Train a trial with several workers, to its last checkpoint."""
    import ray.train
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    report(Status("starting"))
    r = sweep.resources
    trainer = TorchTrainer(
        _worker,
        train_loop_config=config,
        scaling_config=ray.train.ScalingConfig(
            num_workers=r.workers_per_trial,
            use_gpu=r.gpus_per_worker > 0,
            resources_per_worker={
                "CPU": r.cpus_per_worker,
                **({"GPU": r.gpus_per_worker} if r.gpus_per_worker else {}),
            },
        ),
        run_config=ray.train.RunConfig(
            name=trial.id,
            storage_path=scratch,
            failure_config=ray.train.FailureConfig(max_failures=restarts),
            callbacks=[TuneReportCallback()],  # type: ignore[no-untyped-call, list-item]
        ),
    )
    try:
        trainer.fit()
    except ray.train.WorkerGroupError as error:
        # The first worker's own words, not Ray's account of the group.
        first = error.worker_failures[min(error.worker_failures)]
        raise RuntimeError(root_message(first)) from error


def _worker(config: dict[str, str]) -> None:
    """What each Train worker runs."""
    import ray.train
    from ray.train.torch import get_device

    sweep, trial = _planned(config)

    def report(status: Status) -> None:
        ray.train.report({"status": status.to_json()})

    # Rank 0 writes. One that was orphaned by a killed driver may still be at it; the other ranks
    # wait where the checkpoint is shared.
    rank = ray.train.get_context().get_world_rank()
    first = rank == 0
    folder = sweep.trial_folder(trial)
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / TRAINING_LOCK
    alone = exclusive_lock(lock, WRITER_PATIENCE_SECONDS) if first else contextlib.nullcontext()
    used = noting(sweep, trial, f"worker-{rank}")
    with alone, _says_where_it_hangs(sweep, trial), used:
        train_worker(sweep, trial, report, get_device())
