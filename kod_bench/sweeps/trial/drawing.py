"""Draws samples from a trained model in the ways that its trial asks for, shard by shard."""

import contextlib
import hashlib
import json
import logging
import random
import time
from collections.abc import Callable, Mapping
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
from kod_bench.storage import StoredObject
from kod_bench.sweeps.plan.files import SAMPLES
from kod_bench.sweeps.plan.make import current_code
from kod_bench.sweeps.plan.needed_plugins import needed_plugins
from kod_bench.sweeps.plan.progress import Report
from kod_bench.sweeps.plan.trial import Scoring, Trial
from kod_bench.sweeps.store.samples import fetch_shards, put_files
from kod_bench.sweeps.trial.meter import Meter
from kod_bench.sweeps.trial.pictures import (
    ENDS,
    Trajectory,
    forward_order,
    write_forward_end,
    write_trajectory,
)
from kod_bench.sweeps.trial.subject import Subject
from kod_bench.training import derive_seed

#: Who needs the samples looks so often for shards that others draw ...
_LOOK_SECONDS = 0.5
#: ... and draws them itself if none comes in so long, or in so many times what one of its own took:
#: where a machine vanishes, nobody may tell the disk that its claims are void.
_PATIENCE_SECONDS = 60.0
_PATIENCE_SHARDS = 4.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """What one of several processes has to draw of a way.

    Attributes:
        worker: its number, from 0.
        workers: how many draw. Each begins with its own share.
        helps: whether it is none of those but comes and goes; then it begins anywhere.
        gives_way: asked about once a second; True ends the drawing.
    """

    worker: int = 0
    workers: int = 1
    helps: bool = False
    gives_way: Callable[[], bool] = lambda: False

    @property
    def needs_all(self) -> bool:
        """Whether it goes on until all are there: it is alone, but for those that help."""
        return self.workers == 1 and not self.helps

    def order(self, missing: list[int], on_store: bool) -> list[int]:
        """Those of the missing shards that it may draw, in its order."""
        if self.helps:  # where nobody else is at it
            return random.Random(self.worker).sample(missing, len(missing))
        own = [index for index in missing if index % self.workers == self.worker]
        # On a store nobody sees what others are about to draw.
        others = [] if on_store else [i for i in missing if i % self.workers != self.worker]
        return own + others


#: All of it, by this process.
ALL = Part()


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

    def draw(self, scoring: Scoring, report: Report, part: Part = ALL) -> None:
        """Draw what is not there yet of a way.

        Of several workers each begins with its own share, and takes what is left of the others' as
        long as nobody draws it. On an object store, where nobody sees what others are drawing, the
        share of one that has died is left to who tries again, or scores.

        Args:
            scoring: the way.
            report: receives the progress.
            part: which of several processes this is.

        Raises:
            StoppedError: if the sweep was told to stop, or this process to give way.
            FloatingPointError: if the samples are not finite.
        """
        shards = self._shards(scoring)
        indices = shards_of(self._count, self._size)
        if all(shards.has(index) for index in indices):
            return
        on_store = self._subject.sweep.remote is not None
        known = self._fetch(shards)
        missing = shards.missing(indices)
        meter = self._meter(scoring, report, part.gives_way)
        meter.begin(shards, missing)
        shards.path.mkdir(parents=True, exist_ok=True)
        waited = time.monotonic()
        with Claims(shards.path) as claims:
            while missing:
                before = meter.shards
                alone = time.monotonic() - waited > self._patience(meter)
                for index in part.order(missing, on_store):
                    if meter.is_elsewhere(index, known):
                        continue
                    with claims.claim(index) as held:
                        if (held or alone) and not shards.has(index):
                            self._draw_one(shards, scoring, index, meter)
                if not part.needs_all:
                    break
                with contextlib.suppress(OSError):  # what others have put there is drawn again
                    known = self._fetch(shards)
                left = [index for index in missing if not shards.has(index)]
                if meter.shards > before or len(left) < len(missing):
                    waited = time.monotonic()
                elif left:
                    meter.wait(_LOOK_SECONDS)
                missing = left
        _log.info(
            "sampled: %d shards of %d images with %d network calls in %.1f s",
            meter.shards,
            self._size,
            meter.calls,
            meter.seconds,
        )

    def _fetch(self, shards: ShardFolder) -> Mapping[str, StoredObject]:
        """Fetch what is on the store and not here; what is listed there. Nothing on a disk."""
        indices = shards_of(self._count, self._size)
        absent = [shards.file(index).name for index in indices if not shards.has(index)]
        return fetch_shards(self._subject.sweep, self._subject.trial, shards.path.name, absent)

    def _meter(
        self, scoring: Scoring, report: Report, gives_way: Callable[[], bool] = lambda: False
    ) -> Meter:
        sweep, trial = self._subject.sweep, self._subject.trial
        return Meter(sweep, trial, scoring, report, self._count, self._size, gives_way)

    @staticmethod
    def _patience(meter: Meter) -> float:
        each = meter.seconds / meter.shards if meter.shards else 0.0
        return max(_PATIENCE_SECONDS, _PATIENCE_SHARDS * each)

    def samples(self, scoring: Scoring) -> Samples:
        """The samples of a way; what is not there, or damaged, is drawn when it is read."""
        shards = self._shards(scoring)

        def redraw(index: int) -> None:
            self._draw_one(shards, scoring, index, self._meter(scoring, lambda _: None))

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

    def _draw_one(self, shards: ShardFolder, scoring: Scoring, index: int, meter: Meter) -> None:
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
        meter.drawn(index)

    def _shards(self, scoring: Scoring) -> ShardFolder:
        way, trial = Way(*astuple(scoring)), self._subject.trial
        path = child(self._subject.folder / SAMPLES, way.name)
        identity = Identity(
            self._weights, subject_hash(trial), current_code(), way, trial.seed, self._size
        )
        return ShardFolder(path, identity)


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


def subject_hash(trial: Trial) -> str:
    """Of the process, of the data that it was fitted to, and of plug-ins that they come from."""
    said = [trial.process, trial.steps, trial.parameters, trial.dataset, trial.data_hash]
    said += [each.identity() for each in needed_plugins(trial.process, trial.dataset["name"])]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
