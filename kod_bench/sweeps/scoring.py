"""From a trained model to rows: samples, pictures of them, scores, provenance."""

import json
import logging
import math
import time
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.utils import make_grid

from kod_bench.atomic import atomic_write
from kod_bench.data import known_spectrum
from kod_bench.diffusion import DiffusionProcess, circle, run_forward, sample
from kod_bench.evaluation import (
    FeatureExtractor,
    Measured,
    Reference,
    Scores,
    choose_metrics,
    make_extractor,
    marks,
    write_mollweide,
    write_nearest_pairs,
)
from kod_bench.evaluation import score as score_samples
from kod_bench.evaluation.angular import AngularSpectrum, spectrum_distance
from kod_bench.networks import NetworkRunner, make_runner, parameter_count
from kod_bench.results import (
    FORWARD_START,
    TERMINAL_COLUMNS,
    Row,
    forward_end_file,
    grid_file,
    judged_by,
    maps_file,
    measured_file,
    nearest_file,
    provenance,
    trajectory_file,
)
from kod_bench.sweeps.locks import LockedError, exclusive_lock
from kod_bench.sweeps.needed_plugins import needed_plugins
from kod_bench.sweeps.pictures import (
    ENDS,
    Trajectory,
    forward_order,
    write_forward_end,
    write_trajectory,
)
from kod_bench.sweeps.plan import Scoring, Trial
from kod_bench.sweeps.progress import Report, Status
from kod_bench.sweeps.stopping import stop_check
from kod_bench.sweeps.subject import Subject
from kod_bench.training import StoppedError, TrainedModel, derive_seed

GRID_IMAGES = 64

#: References are chosen, and the noise floor computed, equally in all trials of all sweeps.
REFERENCE_SEED = 0

#: One trial measures the reference, the others wait for it; so long, before they do it themselves.
REFERENCE_PATIENCE_SECONDS = 1800.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Samples:
    """Images drawn in one way: (N, C, H, W) uint8 on the CPU, and the seconds it took."""

    scoring: Scoring
    images: Tensor
    seconds: float
    trajectory: Trajectory


def score(
    subject: Subject,
    model: TrainedModel,
    report: Report,
    device: torch.device,
    pruned_at: int | None = None,
) -> list[Row]:
    """Score the model in each of the ways the trial asks for.

    Args:
        subject: the trial.
        model: trained to the end, or to where the trial was pruned.
        report: receives the status.
        device: where to sample.
        pruned_at: the iteration at which it was. Then the model is scored in the first way alone,
            with few samples.
    """
    _log.info("trained: loss %.4f after %.1f s", model.loss, model.seconds)
    trial = subject.trial
    options = trial.evaluation_options
    predict = make_runner(model.network, device, trial.training_section.fast)
    with torch.no_grad():
        predict.warm_up(min(options.batch_size, options.samples), subject.process.state_shape)
    count = options.samples if pruned_at is None else _few(subject)
    scorings = trial.scorings if pruned_at is None else [judged_by(trial.scorings)]
    drawn = []
    for scoring in scorings:
        each = _draw_samples(subject, predict, scoring, count, report, device)
        write_grid(subject.folder / grid_file(*astuple(scoring)), each.images[:GRID_IMAGES])
        if trial.dataset_options.on_sphere:
            write_mollweide(subject.folder / maps_file(*astuple(scoring)), each.images)
        way = (scoring.prior, scoring.sampler, scoring.network_evaluations)
        strip, film = (subject.folder / trajectory_file(*way, film=x) for x in (False, True))
        write_trajectory(strip, film, each.trajectory)
        drawn.append(each)

    orders = _draw_forward_ends(subject, device)
    report(Status("scoring"))
    extractor = make_extractor(options.features, device)
    reference = _reference(subject, extractor, count, device)
    # Of training, then of sampling; one word if they agree.
    precision = ", ".join(dict.fromkeys((*model.precisions, predict.precision)))
    rows = [
        _row(subject, model, precision, extractor, reference, each, orders, device)
        for each in drawn
    ]
    if pruned_at is None:
        return rows
    said = f"pruned at iteration {pruned_at} of {trial.training_section.iterations}"
    return [
        replace(
            row,
            iterations=pruned_at,
            pruned_at=pruned_at,
            marks=said if row.marks is None else f"{said}; {row.marks}",
        )
        for row in rows
    ]


def rung_kid(subject: Subject, network: nn.Module, device: torch.device) -> float:
    """KID of few samples of a network in training, drawn in the way that the trial is judged by."""
    options = subject.trial.evaluation_options
    predict = make_runner(network, device, False)  # compiling takes longer than so few samples
    scoring, count = judged_by(subject.trial.scorings), _few(subject)
    drawn = _draw_samples(subject, predict, scoring, count, None, device)
    extractor = make_extractor(options.features, device)
    reference = _reference(subject, extractor, count, device)
    measured = Measured.of(drawn.images, extractor, with_texture=False)
    only = choose_metrics(["kid"])
    kid = score_samples(measured, reference.measured, REFERENCE_SEED, only)["kid"]
    return math.nan if kid is None else kid


def _few(subject: Subject) -> int:
    """How many samples a trial is judged by at a rung."""
    full, pruner = subject.trial.evaluation_options.samples, subject.sweep.early_stopping
    return full if pruner is None else min(full, pruner.samples)


def _reference(
    subject: Subject, extractor: FeatureExtractor, count: int, device: torch.device
) -> Reference:
    options, dataset = subject.trial.evaluation_options, subject.dataset
    folder = subject.sweep.folder / "cache"
    folder.mkdir(exist_ok=True)

    def load() -> Reference:
        return Reference.load(
            train=dataset.train,
            test=dataset.test,
            data_hash=dataset.content_hash,
            sample_count=count,
            reference_count=options.references,
            seed=REFERENCE_SEED,
            extractor=extractor,
            folder=folder,
            device=device,
            on_sphere=subject.trial.dataset_options.on_sphere,
        )

    try:
        with exclusive_lock(folder / "lock", REFERENCE_PATIENCE_SECONDS):
            return load()
    except LockedError:
        return load()


def _row(
    subject: Subject,
    model: TrainedModel,
    precision: str,
    extractor: FeatureExtractor,
    reference: Reference,
    drawn: _Samples,
    orders: list[tuple[int, float]],
    device: torch.device,
) -> Row:
    sweep, trial = subject.sweep, subject.trial
    dataset, process = subject.dataset, subject.process
    images = drawn.images
    began = time.monotonic()
    on_sphere = trial.dataset_options.on_sphere
    measured = Measured.of(images, extractor, dataset.train, device, on_sphere=on_sphere)
    scores = score_samples(measured, reference.measured, REFERENCE_SEED)
    evaluation_seconds = time.monotonic() - began
    way = astuple(drawn.scoring)
    _log.info("%s, %s, %d evaluations: KID %.4g, FID %.4g", *way, scores["kid"], scores["fid"])
    if measured.nearest is not None:
        path = subject.folder / nearest_file(*way)
        write_nearest_pairs(path, images, dataset.train, measured.nearest)
    _write_measured(subject.folder / measured_file(*way), drawn, orders, measured, reference)

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
        image_size=dataset.train.shape[-2],
        channels=dataset.train.shape[1],
        train_count=len(dataset.train),
        parameters=parameter_count(model.network),
        iterations=trial.training_section.iterations,
        pruned_at=None,
        batch_size=trial.training_section.batch_size,
        workers=trial.workers,
        micro_batch_size=model.micro_batch_size,
        images_seen=model.images_seen,
        loss=model.loss,
        training_seconds=model.seconds,
        resumed_from=model.resumed_from,
        precision=precision,
        prior=drawn.scoring.prior,
        sampler=drawn.scoring.sampler,
        network_evaluations=drawn.scoring.network_evaluations,
        sampling_seconds=drawn.seconds,
        order_parameter=_order_parameter(process, images),
        **_terminal(process, drawn.scoring.prior),
        **_quality(scores, reference),
        **_from_known_spectrum(subject, measured, reference),
        marks=marks(len(images), on_sphere),
        features=extractor.name,
        sample_count=len(images),
        real_count=reference.real_count,
        reference_count=reference.measured.count,
        reference_hash=reference.content_hash,
        evaluation_seconds=evaluation_seconds,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        hostname=code.hostname,
        version=code.version,
        code_hash=code.code_hash,
        git_commit=code.git_commit,
        git_dirty=code.git_dirty,
        packages=code.packages,
        plugins=_plugins(trial, process),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _plugins(trial: Trial, process: DiffusionProcess) -> str | None:
    """The plug-ins behind a row as they are installed here, which the plan's need not be."""
    names = (trial.process, trial.dataset["name"], trial.evaluation["features"])
    said = [
        each.identity() | ({"structured": process.structured} if each.kind == "process" else {})
        for each in needed_plugins(*names)
    ]
    return json.dumps(said) if said else None


def _draw_samples(
    subject: Subject,
    predict: NetworkRunner,
    scoring: Scoring,
    count: int,
    report: Report | None,
    device: torch.device,
) -> _Samples:
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
    return _Samples(scoring, torch.cat(parts), seconds, trajectory)


def _draw_forward_ends(subject: Subject, device: torch.device) -> list[tuple[int, float]]:
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


def _write_measured(
    path: Path,
    drawn: _Samples,
    orders: list[tuple[int, float]],
    measured: Measured,
    reference: Reference,
) -> None:
    """Leave the numbers that a report's figures need: they are no columns of a table."""
    found: dict[str, Any] = {}
    if (back := drawn.trajectory.order_parameters()) is not None:
        steps = [step for step, _ in drawn.trajectory.states]
        found["order_backward"] = list(zip(steps, back, strict=True))
        found["order_forward"] = orders
    if measured.texture is not None and reference.measured.texture is not None:
        for name, texture in (("samples", measured.texture), ("data", reference.measured.texture)):
            found[f"orientation_{name}"] = texture.orientation.tolist()
    with atomic_write(path) as file:
        file.write(json.dumps(found).encode())


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


def _quality(scores: Scores, reference: Reference) -> dict[str, Any]:
    texture = reference.measured.texture
    columns = {**scores, **{f"{column}_real": value for column, value in reference.real.items()}}
    del columns["memorised_share_real"]  # the quantile that defines it
    columns["order_parameter_data"] = None if texture is None else float(texture.order.mean())
    return columns


def _terminal(process: DiffusionProcess, prior: str) -> dict[str, Any]:
    measured = process.diagnostics(None if prior == FORWARD_START else prior)
    if prior == FORWARD_START:
        measured = {name: v for name, v in measured.items() if not name.startswith("prior_")}
    return {name: measured.get(name) for name in TERMINAL_COLUMNS}


def _from_known_spectrum(
    subject: Subject, samples: Measured, reference: Reference
) -> dict[str, Any]:
    names = ("spectrum_distance_known", "spectrum_distance_known_real")
    power = known_spectrum(subject.dataset.name, subject.trial.dataset_options)
    spectra = samples.spectrum, reference.measured.spectrum
    if power is None or None in spectra:
        return dict.fromkeys(names)
    known = AngularSpectrum(1, power)
    return {
        name: spectrum_distance(spectrum, known)
        for name, spectrum in zip(names, spectra, strict=True)
        if spectrum is not None
    }


def _order_parameter(process: DiffusionProcess, images: Tensor) -> float | None:
    if not process.periodic:
        return None
    phases = process.encode(images.float() / 127.5 - 1.0)
    return float(circle.order_parameter(phases).mean())


def write_grid(path: Path, images: Tensor, min_side: int = 512) -> None:
    """Write images as a PNG grid, about square, enlarged by whole factors to `min_side` or more."""
    height, width = images.shape[-2:]
    columns = max(1, math.ceil(math.sqrt(len(images) * height / width)))
    scale = max(1, math.ceil(min_side / (columns * images.shape[-1])))
    enlarged = images.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    grid = make_grid(enlarged, nrow=columns, padding=2 * scale, pad_value=128)
    with atomic_write(path) as file:
        Image.fromarray(grid.permute(1, 2, 0).numpy()).save(file, format="PNG")
