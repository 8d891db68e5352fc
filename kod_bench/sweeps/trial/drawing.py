"""Draws samples from a trained model in the ways that its trial asks for, shard by shard."""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kod_bench.diffusion import to_stored, to_unit
from kod_bench.inside import child
from kod_bench.networks import NetworkRunner
from kod_bench.results import FORWARD_START, forward_end_file, trajectory_file
from kod_bench.sampling import (
    Claims,
    Identity,
    ShardFolder,
    Source,
    StoredSamples,
    Way,
    draw_shard,
    shards_of,
    weights_hash,
)
from kod_bench.sweeps.plan.files import SAMPLES
from kod_bench.sweeps.plan.make import current_code
from kod_bench.sweeps.plan.needed_plugins import needed_plugins
from kod_bench.sweeps.plan.progress import Report, Status
from kod_bench.sweeps.plan.trial import Scoring, Trial
from kod_bench.sweeps.store.samples import fetch_shards, put_files
from kod_bench.sweeps.store.stopping import stop_check
from kod_bench.sweeps.trial.pictures import (
    ENDS,
    Trajectory,
    forward_order,
    write_forward_end,
    write_trajectory,
)
from kod_bench.sweeps.trial.subject import Subject
from kod_bench.training import StoppedError, derive_seed

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Samples:
    """Images drawn in one way.

    Attributes:
        scoring: the way.
        images: where they lie.
        seconds: that drawing them took, of all workers together.
        precisions: of the network, as it was run for them.
        order_backward: for phases, (t, mean order parameter) on the way of the first of them.
    """

    scoring: Scoring
    images: StoredSamples
    seconds: float
    precisions: tuple[str, ...]
    order_backward: list[tuple[int, float]] | None


class Drawer:
    """Draws shards of a trial's model in this process, and stores them in the trial's folder.

    Args:
        subject: the trial.
        network: the trained one.
        predict: runs it.
        device: where.
        count: images that are wanted of each way.
    """

    def __init__(
        self,
        subject: Subject,
        network: nn.Module,
        predict: NetworkRunner,
        device: torch.device,
        count: int,
    ) -> None:
        self._subject = subject
        self._predict = predict
        self._source = _source(subject, predict, device)
        self._weights = weights_hash(network)
        self._count = count
        self._size = shard_size(subject.trial, count)

    def draw(self, scoring: Scoring, report: Report, worker: int = 0, workers: int = 1) -> None:
        """Draw what is not there yet of a way.

        Of several workers each begins with its own share, and takes what is left of the others'
        as long as nobody draws it. On an object store, where nobody sees what others draw, the
        share of one that has died is left to who tries again, or scores.

        Args:
            scoring: the way.
            report: receives the progress.
            worker: number of this process, from 0.
            workers: how many draw.

        Raises:
            StoppedError: if the sweep was told to stop.
            FloatingPointError: if the samples are not finite.
        """
        sweep, trial = self._subject.sweep, self._subject.trial
        shards = self._shards(scoring)
        indices = shards_of(self._count, self._size)
        absent = [shards.file(index).name for index in indices if not shards.has(index)]
        if not absent:
            return
        fetch_shards(sweep, trial, shards.path.name, absent)
        missing = shards.missing(indices)
        own = [index for index in missing if index % workers == worker]
        others = [] if sweep.remote is not None else [i for i in missing if i % workers != worker]
        meter = _Meter(self._subject, scoring, report, self._count, self._size)
        meter.begin(len(indices) - len(missing))
        shards.path.mkdir(parents=True, exist_ok=True)
        with Claims(shards.path) as claims:
            for index in (*own, *others):
                with claims.claim(index) as held:
                    if held and not shards.has(index):
                        self._draw_one(shards, scoring, index, meter)
        _log.info(
            "sampled: %d shards of %d images with %d network calls in %.1f s",
            meter.shards,
            self._size,
            meter.calls,
            meter.seconds,
        )

    def samples(self, scoring: Scoring) -> Samples:
        """The samples of a way; what is not there, or damaged, is drawn when it is read."""
        shards = self._shards(scoring)

        def redraw(index: int) -> None:
            meter = _Meter(self._subject, scoring, lambda _: None, self._count, self._size)
            self._draw_one(shards, scoring, index, meter)

        images = StoredSamples(shards, self._count, redraw)
        found: list[Mapping[str, Any]] = []
        for index in shards_of(self._count, self._size):
            if (about := shards.about(index)) is None:
                images.shard(index)
                about = shards.about(index) or {}
            found.append(about)
        order = found[0]["extra"].get("order_backward")
        return Samples(
            scoring,
            images,
            sum(float(about["seconds"]) for about in found),
            tuple(dict.fromkeys(str(about["precision"]) for about in found)),
            None if order is None else [(int(t), float(value)) for t, value in order],
        )

    def _draw_one(self, shards: ShardFolder, scoring: Scoring, index: int, meter: "_Meter") -> None:
        subject, process = self._subject, self._subject.process
        with torch.no_grad():
            self._predict.warm_up(self._size, process.state_shape)  # that is not timed
        began = time.monotonic()
        seen: list[Trajectory] = []

        def follow(_: int, start: Tensor) -> None:
            evaluations, sampler = scoring.network_evaluations, scoring.sampler
            seen.append(Trajectory.along(process, evaluations, sampler, start))

        first = index == 0
        images = to_stored(
            draw_shard(
                self._source,
                Way(*astuple(scoring)),
                index,
                self._size,
                on_start=follow if first else None,
                on_step=(lambda step, state: seen[0].see(step, state)) if first else None,
                on_call=meter.call,
            ),
            subject.dataset.values,
        )
        seconds = time.monotonic() - began
        names: list[str] = []
        extra: dict[str, Any] = {}
        if first:  # before the shard itself, which says that there is nothing left to do
            at = (scoring.prior, scoring.sampler, scoring.network_evaluations)
            names = [trajectory_file(*at, film=film) for film in (False, True)]
            strip, movie = (subject.folder / name for name in names)
            write_trajectory(strip, movie, seen[0], subject.dataset.values)
            if (orders := seen[0].order_parameters()) is not None:
                steps = (step for step, _ in seen[0].states)
                extra["order_backward"] = list(zip(steps, orders, strict=True))
        precision = self._predict.precision
        shards.write(index, images, seconds=seconds, precision=precision, extra=extra)
        names.append(shards.file(index).relative_to(subject.folder).as_posix())
        put_files(subject.sweep, subject.trial, names)
        meter.shards += 1

    def _shards(self, scoring: Scoring) -> ShardFolder:
        way, trial = Way(*astuple(scoring)), self._subject.trial
        path = child(self._subject.folder / SAMPLES, way.name)
        identity = Identity(
            self._weights, _subject_hash(trial), current_code(), way, trial.seed, self._size
        )
        return ShardFolder(path, identity)


class _Meter:
    """Says how far a way is, and looks whether to go on, about once a second."""

    def __init__(
        self, subject: Subject, scoring: Scoring, report: Report, count: int, size: int
    ) -> None:
        self.calls = 0
        self.shards = 0  # drawn here
        self._present = 0  # those that were there before
        self._evaluations = scoring.network_evaluations
        self._report = report
        self._count, self._size = count, size
        self._should_stop = stop_check(subject.sweep)
        self._began = self._reported = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def begin(self, present: int) -> None:
        """So many shards are there already."""
        self._present = present
        self._report(Status("sampling", min(self._count, present * self._size), self._count))

    def call(self) -> None:
        """The network has been asked once."""
        self.calls += 1
        now = time.monotonic()
        if now - self._reported < 1.0:
            return
        if self._should_stop():
            raise StoppedError("stopped while sampling")
        self._reported = now
        drawn = self.calls / self._evaluations * self._size
        done = min(float(self._count), self._present * self._size + drawn)
        self._report(sampling_status(int(done), self._count, drawn / (now - self._began)))


def sampling_status(done: int, count: int, speed: float) -> Status:
    """How far a way is.

    Args:
        done: images.
        count: images of the way.
        speed: images per second, of all who draw.
    """
    left = (count - done) / speed if speed > 0 else None
    return Status("sampling", done, count, None, speed or None, left)


def shard_size(trial: Trial, count: int) -> int:
    """Images of a shard, where `count` are wanted of a way."""
    return min(trial.evaluation_options.batch_size, count)


@torch.no_grad()
def draw_unstored(
    subject: Subject, predict: NetworkRunner, scoring: Scoring, count: int, device: torch.device
) -> Tensor:
    """A few samples of a network that is still in training: (count, C, H, W), as stored."""
    source, size = _source(subject, predict, device), shard_size(subject.trial, count)
    way = Way(*astuple(scoring))
    values = subject.dataset.values
    parts = [
        to_stored(draw_shard(source, way, index, size), values) for index in shards_of(count, size)
    ]
    return torch.cat(parts)[:count]


def draw_forward_ends(subject: Subject, device: torch.device) -> list[tuple[int, float]]:
    """Draw where the chains of held-out images end, beside each prior that was sampled from.

    Returns:
        For phases, the mean order parameter of the chains on their way: (t, value).
    """
    process, folder = subject.process, subject.folder
    generator = torch.Generator(device).manual_seed(derive_seed(subject.trial.seed, "picture"))
    images = to_unit(subject.dataset.test[:ENDS].to(device))
    ends, orders = forward_order(process, images, generator)
    priors = dict.fromkeys(scoring.prior for scoring in subject.trial.scorings)
    for prior in priors:
        if prior != FORWARD_START:
            states = process.prior(len(ends), generator, prior)
            path = folder / forward_end_file(prior)
            write_forward_end(path, process, ends, states, subject.dataset.values)
    return orders


def _source(subject: Subject, predict: NetworkRunner, device: torch.device) -> Source:
    return Source(subject.process, predict, subject.dataset.test, subject.trial.seed, device)


def _subject_hash(trial: Trial) -> str:
    """Of the process, of the data that it was fitted to, and of plug-ins that they come from."""
    said = [trial.process, trial.steps, trial.parameters, trial.dataset, trial.data_hash]
    said += [each.identity() for each in needed_plugins(trial.process, trial.dataset["name"])]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
