"""One trial, from data to row. Knows nothing of Ray: it is handed how to report and to train."""

import json
import logging
import math
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.utils import make_grid

from kod_bench.data import ImageDataset, load_dataset
from kod_bench.diffusion import DiffusionProcess, circle, make_process, sample
from kod_bench.evaluation import FeatureExtractor, Reference, fid, kid, make_extractor
from kod_bench.networks import make_network, parameter_count
from kod_bench.results import (
    TERMINAL_COLUMNS,
    Row,
    grid_file,
    provenance,
    read_trial,
    write_rows,
)
from kod_bench.sweeps.locks import exclusive_lock
from kod_bench.sweeps.plan import LOCK_FILE, Scoring, Sweep, Trial
from kod_bench.training import (
    CheckpointStore,
    History,
    Progress,
    ShuffledImages,
    TrainedModel,
    TrainingOptions,
    derive_seed,
    load_trained,
    pick_device,
    train,
)

ERROR_FILE = "error.json"
HISTORY_FILE = "history.jsonl"
LOG_FILE = "log.txt"
CHECKPOINTS = "checkpoints"

#: A killed driver leaves its workers alive for some seconds; their trials are waited for.
LOCK_PATIENCE_SECONDS = 60.0
GRID_IMAGES = 64

#: References are chosen, and the noise floor computed, equally in all trials of all sweeps.
REFERENCE_SEED = 0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """What a running trial says of itself. `done` of `total` counts the phase's own steps."""

    phase: str  # preparing, training, sampling or scoring
    done: int = 0
    total: int = 0
    loss: float | None = None
    speed: float | None = None  # steps of the phase per second
    seconds_left: float | None = None  # of the phase

    def to_json(self) -> str:
        """As Ray carries it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Status":
        """Invert `to_json`."""
        return cls(**json.loads(text))


Report = Callable[[Status], None]
Execute = Callable[[Sweep, Trial, Report], list[Row]]


class DataChangedError(RuntimeError):
    """The images on disk are not those the sweep was planned on."""


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
        Exception: whatever went wrong, after ``error.json`` has been written.
    """
    folder = sweep.trial_folder(trial)
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder / LOCK_FILE, LOCK_PATIENCE_SECONDS), _trial_log(folder):
        if (done := read_trial(folder)) is not None:
            return done
        try:
            clear_leftovers(folder)
            _log.info("started on %s, process %d", socket.gethostname(), os.getpid())
            rows = execute(sweep, trial, report)
            write_rows(folder, rows)
            CheckpointStore(folder / CHECKPOINTS).prune(1)  # the model, for whoever wants it
            _log.info("done: %d rows", len(rows))
        except Exception as error:
            _log.exception("failed")
            write_error(folder, error)
            raise
        return rows


def train_and_score(sweep: Sweep, trial: Trial, report: Report) -> list[Row]:
    """Do the whole trial in this process."""
    device = pick_device(gpu=sweep.resources.gpus_per_worker > 0)
    report(Status("preparing"))
    subject = _Subject.load(sweep, trial, device)
    model = _train(subject, report, device)
    return _score(subject, model, report, device)


def train_worker(sweep: Sweep, trial: Trial, report: Report, device: torch.device) -> None:
    """Train the trial's model to its last checkpoint, as one of several DDP workers."""
    _train(_Subject.load(sweep, trial, device), report, device)


def score_trained(sweep: Sweep, trial: Trial, report: Report) -> list[Row]:
    """Score a model whose last checkpoint `train_worker` has written."""
    device = pick_device(gpu=sweep.resources.gpus_per_worker > 0)
    subject = _Subject.load(sweep, trial, device)
    options = trial.training_section
    model = load_trained(subject.network(), subject.checkpoints, options.iterations, device)
    return _score(subject, model, report, device)


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed attempt left half-written, and the reason of an earlier failure."""
    for pattern in (".*.tmp", f"{CHECKPOINTS}/.*.tmp"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    (folder / ERROR_FILE).unlink(missing_ok=True)


def write_error(folder: Path, error: BaseException) -> None:
    """Record why a trial failed, unless the disk refuses that too."""
    record = {
        "error": root_message(error),
        "type": type(error).__name__,
        "traceback": "".join(traceback.format_exception(error)),
        "host": socket.gethostname(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{ERROR_FILE}.{os.getpid()}.tmp"
        temporary.write_text(json.dumps(record, indent=2))
        temporary.replace(folder / ERROR_FILE)
    except OSError:
        _log.exception("the error could not be recorded")


def read_error(folder: Path) -> str | None:
    """The reason an earlier attempt failed, in one line; None if none is recorded."""
    try:
        return str(json.loads((folder / ERROR_FILE).read_text())["error"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return f"{ERROR_FILE} cannot be read"


def root_message(error: BaseException) -> str:
    """The message of the exception that began a chain of them, some wrapped by Ray."""
    cause = error
    while (inner := cause.__cause__ or getattr(cause, "cause", None)) is not None:
        cause = inner
    return one_line(cause)


def one_line(error: BaseException) -> str:
    """An exception's message without line breaks, named by its type if it has none."""
    message = " ".join(str(error).split())
    return message or type(error).__name__


@dataclass(frozen=True)
class _Samples:
    """Images drawn in one way: (N, C, H, W) uint8 on the CPU, and the seconds it took."""

    scoring: Scoring
    images: Tensor
    seconds: float


@dataclass(frozen=True)
class _Subject:
    """A trial with its data and its process, which has been fitted to them."""

    sweep: Sweep
    trial: Trial
    dataset: ImageDataset
    process: DiffusionProcess

    @classmethod
    def load(cls, sweep: Sweep, trial: Trial, device: torch.device) -> "_Subject":
        dataset = load_dataset(trial.dataset_options, sweep.data_dir)
        if dataset.content_hash != trial.data_hash:
            raise DataChangedError(
                f"the images in {sweep.data_dir or 'the built-in generator'} have changed since "
                f"the sweep was planned (hash {dataset.content_hash}, planned {trial.data_hash}); "
                "start a new sweep, or put the images back"
            )
        _, channels, height, width = dataset.train.shape
        process = make_process(
            trial.process, shape=(channels, height, width), steps=trial.steps, **trial.parameters
        )
        # From the seed alone: training, its continuation and sampling must see one process.
        generator = torch.Generator(device).manual_seed(derive_seed(trial.seed, "fit"))
        process.fit(ShuffledImages(dataset.train, generator), generator)
        return cls(sweep, trial, dataset, process)

    @property
    def folder(self) -> Path:
        return self.sweep.trial_folder(self.trial)

    @property
    def checkpoints(self) -> CheckpointStore:
        return CheckpointStore(self.folder / CHECKPOINTS)

    def network(self) -> nn.Module:
        """The network with the initial weights of the trial's seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.trial.seed, "network"))
            return make_network(
                periodic=self.process.periodic,
                channels=self.process.shape[0],
                image_size=self.trial.dataset_options.image_size,
                steps=self.trial.steps,
                **self.trial.network_options.model_dump(),
            )


def _train(subject: _Subject, report: Report, device: torch.device) -> TrainedModel:
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
        return History(subject.folder / HISTORY_FILE, keep_up_to)

    return train(
        subject.process,
        subject.network(),
        subject.dataset.train,
        TrainingOptions(**subject.trial.training_section.model_dump()),
        seed=subject.trial.seed,
        device=device,
        checkpoints=subject.checkpoints,
        history=history,
        on_progress=on_progress,
    )


def _score(
    subject: _Subject, model: TrainedModel, report: Report, device: torch.device
) -> list[Row]:
    """Score the model in each of the ways the trial asks for."""
    _log.info("trained: loss %.4f after %.1f s", model.loss, model.seconds)
    trial, dataset = subject.trial, subject.dataset
    options = trial.evaluation_options
    drawn = []
    for index, scoring in enumerate(trial.scorings):
        drawn.append(_draw_samples(subject, model.network, scoring, index, report, device))

    report(Status("scoring"))
    extractor = make_extractor(options.features, device)
    reference = Reference.load(
        train=dataset.train,
        test=dataset.test,
        sample_count=options.samples,
        reference_count=options.references,
        seed=REFERENCE_SEED,
        extractor=extractor,
        folder=subject.sweep.folder / "cache",
    )
    return [_row(subject, model, extractor, reference, each, device) for each in drawn]


def _row(
    subject: _Subject,
    model: TrainedModel,
    extractor: FeatureExtractor,
    reference: Reference,
    drawn: _Samples,
    device: torch.device,
) -> Row:
    sweep, trial = subject.sweep, subject.trial
    dataset, process = subject.dataset, subject.process
    images = drawn.images
    began = time.monotonic()
    features = extractor(images)
    kid_score = kid(features, reference.features, REFERENCE_SEED)
    fid_score = fid(features, reference.features)
    evaluation_seconds = time.monotonic() - began
    _log.info(
        "%s, %d evaluations: KID %.4g, FID %.4g",
        drawn.scoring.sampler,
        drawn.scoring.network_evaluations,
        kid_score,
        fid_score,
    )

    code = provenance.collect()
    return Row(
        space=sweep.space,
        sweep=sweep.name,
        trial=trial.id,
        model=trial.model,
        process=trial.process,
        steps=trial.steps,
        seed=trial.seed,
        config=trial.config,
        config_hash=trial.config_hash,
        dataset=dataset.name,
        data_hash=dataset.content_hash,
        image_size=dataset.train.shape[-1],
        channels=dataset.train.shape[1],
        train_count=len(dataset.train),
        parameters=parameter_count(model.network),
        iterations=trial.training_section.iterations,
        batch_size=trial.training_section.batch_size,
        workers=trial.workers,
        images_seen=model.images_seen,
        loss=model.loss,
        training_seconds=model.seconds,
        resumed_from=model.resumed_from,
        sampler=drawn.scoring.sampler,
        network_evaluations=drawn.scoring.network_evaluations,
        sampling_seconds=drawn.seconds,
        order_parameter=_order_parameter(process, images),
        **_terminal(process),
        kid=kid_score,
        fid=fid_score,
        kid_real=reference.kid_real,
        fid_real=reference.fid_real,
        features=extractor.name,
        sample_count=len(images),
        real_count=reference.real_count,
        reference_count=len(reference.features),
        reference_hash=reference.content_hash,
        evaluation_seconds=evaluation_seconds,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        hostname=code.hostname,
        version=code.version,
        code_hash=code.code_hash,
        git_commit=code.git_commit,
        git_dirty=code.git_dirty,
        packages=code.packages,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _draw_samples(
    subject: _Subject,
    network: nn.Module,
    scoring: Scoring,
    index: int,
    report: Report,
    device: torch.device,
) -> _Samples:
    """Draw the samples of the trial's scoring number `index`, and a picture of some of them."""
    trial, options = subject.trial, subject.trial.evaluation_options
    # Every batch has its own stream: the first images do not depend on how many follow.
    sizes = [
        min(options.batch_size, options.samples - first)
        for first in range(0, options.samples, options.batch_size)
    ]
    evaluations = scoring.network_evaluations
    each = len(sizes) * evaluations
    before = len(sizes) * sum(s.network_evaluations for s in trial.scorings[:index])
    total = len(sizes) * sum(s.network_evaluations for s in trial.scorings)
    began = reported = time.monotonic()
    count = 0

    def on_step(step: int, state: Tensor) -> None:
        nonlocal reported, count
        count += 1
        now = time.monotonic()
        if now - reported >= 1.0:
            reported = now
            speed = count / (now - began)
            left = (total - before - count) / speed
            report(Status("sampling", before + count, total, None, speed, left))

    report(Status("sampling", before, total))
    parts = []
    for batch, size in enumerate(sizes):
        generator = torch.Generator(device).manual_seed(derive_seed(trial.seed, "sample", batch))
        images = sample(
            subject.process,
            network,
            size,
            generator,
            sampler=scoring.sampler,
            evaluations=evaluations,
            on_step=on_step,
        )
        parts.append(to_bytes(images).cpu())
    seconds = time.monotonic() - began
    _log.info("sampled: %d images with %d network calls in %.1f s", sum(sizes), each, seconds)
    images = torch.cat(parts)
    write_grid(subject.folder / grid_file(scoring.sampler, evaluations), images[:GRID_IMAGES])
    return _Samples(scoring, images, seconds)


def to_bytes(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8, rounded. Refuses values that are not finite."""
    if not images.isfinite().all():
        raise FloatingPointError("the samples are not finite; the model has diverged")
    return ((images + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _terminal(process: DiffusionProcess) -> dict[str, Any]:
    measured = process.diagnostics()
    return {name: measured.get(name) for name in TERMINAL_COLUMNS}


def _order_parameter(process: DiffusionProcess, images: Tensor) -> float | None:
    if not process.periodic:
        return None
    phases = process.encode(images.float() / 127.5 - 1.0)
    return float(circle.order_parameter(phases).mean())


def write_grid(path: Path, images: Tensor, min_side: int = 512) -> None:
    """Write images as a square PNG grid, enlarged by whole factors to at least `min_side`."""
    columns = max(1, math.ceil(math.sqrt(len(images))))
    scale = max(1, math.ceil(min_side / (columns * images.shape[-1])))
    enlarged = images.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    grid = make_grid(enlarged, nrow=columns, padding=2 * scale, pad_value=128)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    Image.fromarray(grid.permute(1, 2, 0).numpy()).save(temporary, format="PNG")
    temporary.replace(path)


@contextmanager
def _trial_log(folder: Path) -> Iterator[None]:
    """Send this package's log messages to the trial's log file."""
    handler = logging.FileHandler(folder / LOG_FILE)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
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
