"""How long the parts of a trial take here: a few real steps of each, run and thrown away."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from kod_bench.data import load_dataset
from kod_bench.diffusion import likelihood_evaluations, run_forward, sample, to_unit
from kod_bench.evaluation import Measured, make_extractor
from kod_bench.evaluation import score as score_samples
from kod_bench.evaluation.feature_sets import ROWS, room_for
from kod_bench.networks import make_runner
from kod_bench.results import FORWARD_START
from kod_bench.storage import Location
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.space import ResourceOptions
from kod_bench.sweeps.store.scratch import scratch_folder
from kod_bench.sweeps.trial.likelihood import likelihood_images
from kod_bench.sweeps.trial.subject import Subject
from kod_bench.training import (
    CheckpointStore,
    History,
    Progress,
    TrainingOptions,
    pick_device,
    train,
)

#: Training is watched for so long, but for at least and at most so many iterations. The first ones
#: are left out: caches and allocators are cold.
_TRAINING_SECONDS = 2.5
_FEWEST, _MOST, _COLD = 8, 400, 2
#: Every so manyth iteration of a timing writes a checkpoint.
_CHECKPOINT_EVERY = 8
#: A CPU's time is proportional to the images long before a batch is as large as evaluation's.
_CPU_IMAGES = 64
_MEASURED_IMAGES = 128
#: A learning rate with which nothing diverges: it has no part in how long a step takes.
_HARMLESS = 1e-5
_EVALUATIONS = 2


@dataclass(frozen=True)
class ModelTiming:
    """Seconds of one trial's own work."""

    start: float  # data, process with its fit, network, the first iteration with compiling
    iteration: float
    checkpoint: float  # writing one
    drawing: dict[str, float]  # by sampler, per image and network evaluation
    forward_step: float  # per image, where sampling starts at the ends of forward chains
    likelihood: float = 0.0  # of as many held-out images as are asked for


@dataclass(frozen=True)
class ScoringTiming:
    """Seconds of what follows sampling; the same for all trials on one data set."""

    start: float  # the extractor
    image: float  # measuring one
    row: float  # all metrics, once images are measured
    references: int
    stand_ins: int

    @property
    def reference(self) -> float:
        """Measuring the held-out images, and real versus real: once in a sweep."""
        return self.start + self.image * (self.references + self.stand_ins) + self.row


class _EnoughError(Exception):
    """Ends a training that has been watched for long enough."""


def time_model(trial: Trial, data_dir: Location | None, resources: ResourceOptions) -> ModelTiming:
    """Time a trial's training and sampling. Nothing of it stays.

    With several workers, one's share of the batch is timed; what they say to each other is not.
    """
    device = pick_device(gpu=resources.gpus_per_worker > 0)
    with scratch_folder() as folder:
        began = time.perf_counter()
        sweep = Sweep(folder, "timing", "timing", data_dir, resources, (trial,))
        subject = Subject.load(sweep, trial, device)
        network = subject.network()
        ticks = _train(subject, network, folder, device)
        start = ticks[0] - began
        seconds = [after - before for before, after in pairwise(ticks)]
        # After iteration n = 1, 2, ...: the time of the next, with a checkpoint where one was due.
        saving = [s for n, s in enumerate(seconds, 1) if n % _CHECKPOINT_EVERY == 0]
        plain = [s for n, s in enumerate(seconds, 1) if n % _CHECKPOINT_EVERY != 0]
        iteration = _mean(plain[_COLD:] or plain or [start])
        drawing = _draw(subject, network, device)
        return ModelTiming(
            start=start,
            iteration=iteration,
            checkpoint=max(0.0, _mean(saving) - iteration) if saving else 0.0,
            drawing=drawing,
            forward_step=_forward(subject, device),
            likelihood=_likelihood(subject, max(drawing.values())),
        )


def _train(
    subject: Subject, network: torch.nn.Module, folder: Path, device: torch.device
) -> list[float]:
    """Train for a while: the time after every iteration."""
    trial = subject.trial
    section = trial.training_section
    ticks: list[float] = []

    def on_progress(_: Progress) -> None:
        ticks.append(time.perf_counter())
        if len(ticks) > _FEWEST and ticks[-1] - ticks[0] > _TRAINING_SECONDS:
            raise _EnoughError

    options = TrainingOptions(**section.model_dump())
    with contextlib.suppress(_EnoughError):
        train(
            subject.process,
            network,
            subject.dataset.train,
            _changed(options, min(section.iterations, _MOST), section.batch_size // trial.workers),
            seed=trial.seed,
            device=device,
            checkpoints=CheckpointStore(folder / "checkpoints"),
            history=lambda keep: History(folder / "history.jsonl", keep),
            on_progress=on_progress,
            augment=trial.dataset_options.changes,
        )
    return ticks


def _changed(options: TrainingOptions, iterations: int, batch_size: int) -> TrainingOptions:
    return TrainingOptions(
        **vars(options)
        | {
            "iterations": iterations,
            "batch_size": batch_size,
            "log_every": 1,
            "checkpoint_every": _CHECKPOINT_EVERY,
            "learning_rate": min(options.learning_rate, _HARMLESS),
        }
    )


@torch.no_grad()
def _draw(subject: Subject, network: torch.nn.Module, device: torch.device) -> dict[str, float]:
    trial, process = subject.trial, subject.process
    options = trial.evaluation_options
    size = _size(min(options.batch_size, options.samples), device)
    network.eval()
    predict = make_runner(network, device, trial.training_section.fast)
    predict.warm_up(size, process.state_shape)
    evaluations = min(_EVALUATIONS, process.steps)
    found = {}
    for sampler in dict.fromkeys(scoring.sampler for scoring in trial.scorings):
        for _ in range(2):  # the first is cold
            generator = torch.Generator(device).manual_seed(0)
            began = time.perf_counter()
            sample(process, predict, size, generator, sampler=sampler, evaluations=evaluations)
            _wait(device)
            found[sampler] = (time.perf_counter() - began) / (size * evaluations)
    return found


def _forward(subject: Subject, device: torch.device) -> float:
    if all(scoring.prior != FORWARD_START for scoring in subject.trial.scorings):
        return 0.0
    images = subject.dataset.test[: _size(len(subject.dataset.test), device)]
    states = to_unit(images.to(device))
    began = time.perf_counter()
    run_forward(subject.process, states, torch.Generator(device).manual_seed(0))
    _wait(device)
    return (time.perf_counter() - began) / (len(states) * subject.process.steps)


def _likelihood(subject: Subject, evaluation: float) -> float:
    """Seconds of the likelihood, by those of one evaluation; a gradient takes as many again."""
    options, process = subject.trial.evaluation_options, subject.process
    count = min(likelihood_images(options, process), len(subject.dataset.test))
    if not count:
        return 0.0
    number, with_gradient = likelihood_evaluations(process)
    return count * number * evaluation * (2 if with_gradient else 1)


def time_scoring(
    trial: Trial, data_dir: Location | None, resources: ResourceOptions
) -> ScoringTiming:
    """Time features and metrics, at the trial's counts, on training images."""
    device = pick_device(gpu=resources.gpus_per_worker > 0)
    options = trial.evaluation_options
    dataset = load_dataset(trial.dataset_options, data_dir)
    began = time.perf_counter()
    extractor = make_extractor(options.features, device)
    start = time.perf_counter() - began
    images = dataset.train[: min(_MEASURED_IMAGES, options.samples)]
    Measured.of(images[:2], extractor, dataset.train, device)
    began = time.perf_counter()
    few = Measured.of(images, extractor, dataset.train, device)
    image = (time.perf_counter() - began) / len(images)
    references = min(options.references, len(dataset.test))
    samples, reference = _enlarged(few, options.samples, 0), _enlarged(few, references, 1)
    began = time.perf_counter()
    score_samples(samples, reference, 0)
    row = time.perf_counter() - began
    return ScoringTiming(start, image, row, references, min(options.samples, len(dataset.train)))


def _enlarged(few: Measured, count: int, seed: int) -> Measured:
    """As if more images had been measured: their features again, moved a little apart."""
    if few.features is None:
        return few
    features = few.features[:]
    generator, spread = np.random.default_rng(seed), 0.1 * features.std()
    more = room_for(count, features.shape[1])  # in a file where the trial has them in one
    for first in range(0, count, ROWS):
        which = np.arange(first, min(first + ROWS, count)) % len(features)
        noise = spread * generator.normal(size=(len(which), features.shape[1]))
        more[first : first + len(which)] = features[which] + noise
    return Measured(count, more, few.texture, few.nearest, few.spectrum)


def _size(count: int, device: torch.device) -> int:
    return count if device.type == "cuda" else min(count, _CPU_IMAGES)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
