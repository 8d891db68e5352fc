"""One trial, from data to row. Knows nothing of Ray: it is handed how to report and to train."""

import gc
import io
import logging
import math
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import torch
import torch.distributed as dist
from torch import nn

from kod_bench.atomic import LEFTOVERS
from kod_bench.errors import one_line
from kod_bench.inside import open_to_append
from kod_bench.results import Row, read_trial, write_rows
from kod_bench.sampling import weights_hash
from kod_bench.sweeps.plan.failures import write_error
from kod_bench.sweeps.plan.files import CHECKPOINTS, CURVES, HISTORY_FILE, LOG_FILE, SAMPLES
from kod_bench.sweeps.plan.progress import Report, Status
from kod_bench.sweeps.plan.sweep import LOCK_FILE, Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.search.early_stopping import (
    decided,
    given_up_at,
    judge,
    rung_iterations,
    rung_metric,
)
from kod_bench.sweeps.store.bring import GoneError, bring_model
from kod_bench.sweeps.store.locks import exclusive_lock
from kod_bench.sweeps.store.mirror import (
    fetch_micro_batch,
    fetch_trial,
    publish_rows,
    put_micro_batch,
    put_pictures,
    working_copy,
)
from kod_bench.sweeps.store.samples import drop_shards
from kod_bench.sweeps.store.stopping import stop_check, stop_requested
from kod_bench.sweeps.trial.drawing import Part, shard_size
from kod_bench.sweeps.trial.micro_batch import halve_micro_batch, recorded_micro_batch
from kod_bench.sweeps.trial.scoring import make_drawer, rung_value, score, scored_ways, wanted
from kod_bench.sweeps.trial.subject import Subject
from kod_bench.training import (
    CheckpointStore,
    CurveWriter,
    History,
    Progress,
    PrunedError,
    StoppedError,
    TooLittleMemoryError,
    TrainedModel,
    TrainingOptions,
    load_trained,
    pick_device,
    train,
)
from kod_bench.visible import VisibleFormatter

#: A killed driver leaves its workers alive for some seconds; their trials are waited for.
TRIAL_PATIENCE_SECONDS = 60.0
_log = logging.getLogger(__name__)


Execute = Callable[[Sweep, Trial, Report], list[Row]]


def run_trial(sweep: Sweep, trial: Trial, report: Report, execute: Execute) -> list[Row]:
    """Run a trial and write its rows, continuing what an earlier attempt left.

    Args:
        sweep: where the trial belongs.
        trial: what to run.
        report: called with the trial's status as it changes.
        execute: trains, samples and scores: `train_and_score`, or the same spread over several
            processes.

    Returns:
        The rows, which are in the trial's folder by then.

    Raises:
        StoppedError: if the sweep was told to stop; no failure.
        Exception: whatever went wrong, after ``error.json`` has been written.
    """
    if stop_requested(sweep):
        raise StoppedError("not begun")
    folder = sweep.trial_folder(trial)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        exclusive_lock(folder / LOCK_FILE, TRIAL_PATIENCE_SECONDS),
        working_copy(sweep, trial),
        _trial_log(folder),
    ):
        if (done := read_trial(folder)) is not None:
            _drop_samples(sweep, trial, done)  # a kill may have come between the row and this
            return done
        try:
            clear_leftovers(folder)
            _log.info("started on %s, process %d", socket.gethostname(), os.getpid())
            rows = execute(sweep, trial, report)
            _draw_scores(folder, rows)
            write_rows(folder, rows)
            _drop_samples(sweep, trial, rows)
            CheckpointStore(folder / CHECKPOINTS).prune(1)  # the model, for whoever wants it
            _log.info("done: %d rows", len(rows))
            publish_rows(sweep, trial)
        except StoppedError as stopped:
            _log.info("%s", stopped)
            raise
        except Exception as error:
            _log.exception("failed")
            write_error(folder, error)
            raise
        return rows


def _drop_samples(sweep: Sweep, trial: Trial, rows: list[Row]) -> None:
    """Leave the samples that `evaluation.keep_samples` says; the others can be drawn again."""
    options, count = trial.evaluation_options, rows[0].sample_count
    data = trial.dataset_options
    number = 4 if data.values == "angles" else 1  # bytes
    bytes_each = number * rows[0].channels * math.prod(data.image_shape)
    kept = options.kept(count, bytes_each, len(rows))
    size = shard_size(trial, count)
    try:
        drop_shards(sweep, trial, lambda index: index * size < kept)
    except OSError as error:  # the row is there: the trial is done
        _log.warning("not all samples could be dropped: %s", one_line(error))


def _draw_scores(folder: Path, rows: list[Row]) -> None:
    """Put the scores beside the curves, as points at the last iteration."""
    with CurveWriter(folder / CURVES, rows[0].iterations) as curves:
        for row in rows:
            way = f"{row.prior}-{row.sampler}-{row.network_evaluations}"
            scores = {f"kid/{way}": row.kid, f"fid/{way}": row.fid}
            if row.correlation_distance is not None:
                scores[f"correlation_distance/{way}"] = row.correlation_distance
            curves.add(row.iterations, scores)


def train_and_score(sweep: Sweep, trial: Trial, report: Report) -> list[Row]:
    """Do the whole trial in this process."""
    device = _device(sweep)
    report(Status("preparing"))
    bring_model(sweep, trial)
    subject = Subject.load(sweep, trial, device)
    if trial.model_of is not None:
        return _score_checkpoint(subject, report, device, given_up_at(sweep, trial))
    try:
        model = _train_within_memory(subject, report, device)
    except PrunedError as pruned:
        _log.info("%s", pruned)
        return _score_checkpoint(subject, report, device, pruned.iteration)
    return score(subject, model, report, device)


def _device(sweep: Sweep) -> torch.device:
    gpus = sweep.resources.gpus_per_worker
    device = pick_device(gpu=gpus > 0)
    if gpus and device.type == "cpu":
        _log.warning("gpus_per_worker is %g but torch sees no GPU: this runs on the CPU", gpus)
    return device


def train_worker(sweep: Sweep, trial: Trial, report: Report, device: torch.device) -> None:
    """Train the trial's model to its last checkpoint, as one of several DDP workers.

    It returns without complaint if the sweep was told to stop, or the trial was pruned. A worker
    whose memory runs out ends, and with it the group: those that are started in its place find the
    smaller micro-batch on record.
    """
    first = not dist.is_initialized() or dist.get_rank() == 0
    folder = sweep.trial_folder(trial)
    folder.mkdir(parents=True, exist_ok=True)
    # Rank 0 alone reads checkpoints and writes files.
    with working_copy(sweep, trial) if first else nullcontext(), _trial_log(folder):
        if first:
            bring_model(sweep, trial)
        else:
            fetch_micro_batch(sweep, trial)
        subject = Subject.load(sweep, trial, device)
        try:
            _train(subject, report, device)
        except (StoppedError, PrunedError) as ended:
            _log.info("%s", ended)
        except TooLittleMemoryError as error:
            _take_less(subject, error)
            raise


def draw_trained(sweep: Sweep, trial: Trial, part: Part) -> None:
    """Draw samples of a model whose last checkpoint is there, as one of several processes.

    It returns without complaint if the sweep was told to stop, or this process to give way.

    Args:
        sweep: where the trial belongs.
        trial: whose model it is.
        part: which of the processes this is.
    """
    if stop_requested(sweep):  # perhaps while it was trained: there is no last checkpoint then
        return
    folder = sweep.trial_folder(trial)
    folder.mkdir(parents=True, exist_ok=True)
    fetch_trial(sweep, trial)
    with _trial_log(folder):
        doing = "helping" if part.helps else "drawing"
        _log.info("%s on %s, process %d", doing, socket.gethostname(), os.getpid())
        bring_model(sweep, trial)
        device = _device(sweep)
        subject = Subject.load(sweep, trial, device)
        pruned = given_up_at(sweep, trial)
        model = _read_model(subject, device, pruned)
        drawer = make_drawer(subject, model.network, device, wanted(sweep, trial, pruned))
        try:
            for scoring in scored_ways(trial, pruned):
                drawer.draw(scoring, lambda _: None, part)
        except StoppedError as stopped:
            _log.info("%s", stopped)


def score_trained(sweep: Sweep, trial: Trial, report: Report) -> list[Row]:
    """Score a model whose last checkpoint `train_worker` has written.

    Raises:
        StoppedError: if the sweep was told to stop, which may have kept it from being written.
    """
    if stop_requested(sweep):
        raise StoppedError("stopped before scoring")
    folder = sweep.trial_folder(trial)
    folder.mkdir(parents=True, exist_ok=True)
    with working_copy(sweep, trial), put_pictures(sweep, trial), _trial_log(folder):
        bring_model(sweep, trial)
        device = _device(sweep)
        subject = Subject.load(sweep, trial, device)
        return _score_checkpoint(subject, report, device, given_up_at(sweep, trial))


def _score_checkpoint(
    subject: Subject, report: Report, device: torch.device, pruned: int | None
) -> list[Row]:
    """Score the model of the last checkpoint: of the end, or of the rung where it was pruned."""
    return score(subject, _read_model(subject, device, pruned), report, device, pruned)


def _read_model(subject: Subject, device: torch.device, pruned: int | None) -> TrainedModel:
    iterations = subject.trial.training_section.iterations if pruned is None else pruned
    model = load_trained(subject.network(), subject.checkpoints, iterations, device)
    reused = subject.trial.model_of
    if reused is not None and reused.weights not in (None, weights_hash(model.network)):
        raise GoneError(
            f"{reused.name}/{reused.trial}: its checkpoint holds another model than its rows are "
            "of; train anew: kod-bench sweep"
        )
    return model


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed attempt left half-written."""
    for pattern in (LEFTOVERS, f"{CHECKPOINTS}/{LEFTOVERS}", f"{SAMPLES}/*/{LEFTOVERS}"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _train_within_memory(subject: Subject, report: Report, device: torch.device) -> TrainedModel:
    """Train; if memory runs out, continue once from the last checkpoint with smaller parts."""
    try:
        return _train(subject, report, device)
    except TooLittleMemoryError as error:
        half = _take_less(subject, error)
        if half == error.micro_batch_size:
            raise
    # Outside the handler: the exception holds the frames, and they the tensors.
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        return _train(subject, report, device)
    except TooLittleMemoryError as error:
        _take_less(subject, error)
        raise


def _take_less(subject: Subject, error: TooLittleMemoryError) -> int:
    half = halve_micro_batch(subject.folder, error.micro_batch_size)
    put_micro_batch(subject.sweep, subject.trial)
    return half


def _train(subject: Subject, report: Report, device: torch.device) -> TrainedModel:
    options = TrainingOptions(**subject.trial.training_section.model_dump())
    if (size := recorded_micro_batch(subject.folder)) is not None:
        options = replace(options, micro_batch_size=size)

    def on_progress(progress: Progress) -> None:
        left = (progress.iterations - progress.iteration) / progress.iterations_per_second
        report(
            Status(
                "training",
                progress.iteration,
                progress.iterations,
                progress.loss,
                progress.iterations_per_second,
                left,
            )
        )

    def history(keep_up_to: int) -> History:
        curves = CurveWriter(subject.folder / CURVES, keep_up_to)
        return History(subject.folder / HISTORY_FILE, keep_up_to, curves)

    def goes_on(iteration: int, network: nn.Module) -> bool:
        verdict = decided(subject.folder, iteration)
        if verdict is None:
            value = rung_value(subject, network, device)
            verdict = judge(subject.sweep, subject.trial, iteration, value)
            follows = "goes on" if verdict else "pruned"
            name = rung_metric(subject.sweep, subject.trial)
            _log.info("%s %.4g at rung %d: %s", name, value, iteration, follows)
        return verdict

    return train(
        subject.process,
        subject.network(),
        subject.dataset.train,
        options,
        seed=subject.trial.seed,
        device=device,
        checkpoints=subject.checkpoints,
        history=history,
        on_progress=on_progress,
        augment=subject.trial.dataset_options.changes,
        should_stop=stop_check(subject.sweep),
        rungs=rung_iterations(subject.sweep, subject.trial),
        goes_on=goes_on,
    )


def open_log(folder: Path) -> TextIO:
    """A trial's log file, to append to; not what a link in a stranger's results leads to.

    Raises:
        OSError: if it cannot be written, or is a link.
    """
    return io.TextIOWrapper(open_to_append(folder / LOG_FILE), encoding="utf-8")


@contextmanager
def _trial_log(folder: Path) -> Iterator[None]:
    """Send this package's log messages to the trial's log file."""
    stream = open_log(folder)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(VisibleFormatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("kod_bench")
    previous = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(previous)
        handler.close()
        stream.close()
