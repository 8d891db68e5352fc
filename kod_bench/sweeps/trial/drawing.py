"""Draws samples from a trained model in the ways that its trial asks for."""

import logging
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from kod_bench.diffusion import run_forward, sample
from kod_bench.networks import NetworkRunner
from kod_bench.results import FORWARD_START, forward_end_file
from kod_bench.sweeps.plan.progress import Report, Status
from kod_bench.sweeps.plan.trial import Scoring
from kod_bench.sweeps.store.stopping import stop_check
from kod_bench.sweeps.trial.pictures import ENDS, Trajectory, forward_order, write_forward_end
from kod_bench.sweeps.trial.subject import Subject
from kod_bench.training import StoppedError, derive_seed

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Samples:
    """Images drawn in one way: (N, C, H, W) uint8 on the CPU, and the seconds it took."""

    scoring: Scoring
    images: Tensor
    seconds: float
    trajectory: Trajectory


def draw_samples(
    subject: Subject,
    predict: NetworkRunner,
    scoring: Scoring,
    count: int,
    report: Report | None,
    device: torch.device,
) -> Samples:
    """Draw `count` samples in one of the trial's ways.

    Without `report`, amid a training, nobody is told, and nothing is asked.
    """
    trial, options = subject.trial, subject.trial.evaluation_options
    # Every batch has its own stream: the first images do not depend on how many follow.
    sizes = [
        min(options.batch_size, count - first) for first in range(0, count, options.batch_size)
    ]
    evaluations = scoring.network_evaluations
    index = trial.scorings.index(scoring)
    before = len(sizes) * sum(s.network_evaluations for s in trial.scorings[:index])
    total = len(sizes) * sum(s.network_evaluations for s in trial.scorings)
    began = reported = time.monotonic()
    done = 0
    should_stop = stop_check(subject.sweep)

    def ask(state: Tensor, step: Tensor) -> Tensor:
        nonlocal reported, done
        prediction = predict(state, step)
        done += 1
        now = time.monotonic()
        if report is not None and now - reported >= 1.0:
            if should_stop():
                raise StoppedError("stopped while sampling")
            reported = now
            speed = done / (now - began)
            left = (total - before - done) / speed
            report(Status("sampling", before + done, total, None, speed, left))
        return prediction

    if report is not None:
        report(Status("sampling", before, total))
    parts = []
    trajectory: Trajectory | None = None
    for batch, size in enumerate(sizes):
        generator = torch.Generator(device).manual_seed(derive_seed(trial.seed, "sample", batch))
        start = _start(subject, scoring.prior, options.batch_size * batch, size, generator)
        if trajectory is None:
            trajectory = Trajectory.along(subject.process, evaluations, scoring.sampler, start)
        images = sample(
            subject.process,
            ask,
            size,
            generator,
            sampler=scoring.sampler,
            evaluations=evaluations,
            start=start,
            on_step=None if batch else trajectory.see,
        )
        parts.append(to_bytes(images).cpu())
    seconds = time.monotonic() - began
    _log.info("sampled: %d images with %d network calls in %.1f s", sum(sizes), done, seconds)
    assert trajectory is not None  # there is at least one batch
    return Samples(scoring, torch.cat(parts), seconds, trajectory)


def draw_forward_ends(subject: Subject, device: torch.device) -> list[tuple[int, float]]:
    """Draw where the chains of held-out images end, beside each prior that was sampled from.

    Returns:
        For phases, the mean order parameter of the chains on their way: (t, value).
    """
    process, folder = subject.process, subject.folder
    generator = torch.Generator(device).manual_seed(derive_seed(subject.trial.seed, "picture"))
    images = subject.dataset.test[:ENDS].to(device).float() / 127.5 - 1.0
    ends, orders = forward_order(process, images, generator)
    priors = dict.fromkeys(scoring.prior for scoring in subject.trial.scorings)
    for prior in priors:
        if prior != FORWARD_START:
            states = process.prior(len(ends), generator, prior)
            write_forward_end(folder / forward_end_file(prior), process, ends, states)
    return orders


def _start(
    subject: Subject, prior: str, first: int, count: int, generator: torch.Generator
) -> Tensor:
    """States x_T: draws of a prior, or the ends of held-out images' chains, from number `first`."""
    if prior != FORWARD_START:
        return subject.process.prior(count, generator, prior)
    held_out = subject.dataset.test
    order = torch.randperm(
        len(held_out), generator=torch.Generator().manual_seed(derive_seed(0, "forward-start"))
    )
    chosen = order[torch.arange(first, first + count) % len(order)]
    images = held_out[chosen].to(generator.device).float() / 127.5 - 1.0
    return run_forward(subject.process, images, generator)


def to_bytes(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8, rounded. Refuses values that are not finite."""
    if not images.isfinite().all():
        raise FloatingPointError("the samples are not finite; the model has diverged")
    return ((images + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
