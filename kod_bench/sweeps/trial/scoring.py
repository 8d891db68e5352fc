"""From a trained model to rows: samples, pictures of them, scores."""

import logging
import math
from dataclasses import astuple, replace

import torch
from torch import nn

from kod_bench.evaluation import (
    FeatureExtractor,
    KeptFeatures,
    Measured,
    choose_metrics,
    make_extractor,
    write_mollweide,
)
from kod_bench.evaluation import score as score_samples
from kod_bench.evaluation.mollweide import IMAGES as MAPS_SHOWN
from kod_bench.networks import make_runner
from kod_bench.results import Row, grid_file, judged_by, maps_file
from kod_bench.sampling import MANIFEST_FILE, ShardFolder
from kod_bench.sweeps.plan.files import SAMPLES
from kod_bench.sweeps.plan.make import current_code
from kod_bench.sweeps.plan.progress import Report, Status
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Scoring, Trial
from kod_bench.sweeps.search.early_stopping import rung_metric
from kod_bench.sweeps.store.samples import fetch_file, put_files
from kod_bench.sweeps.trial.drawing import Drawer, draw_forward_ends, draw_unstored
from kod_bench.sweeps.trial.grid import GRID_IMAGES, write_grid
from kod_bench.sweeps.trial.likelihood import held_out_likelihood
from kod_bench.sweeps.trial.reference import REFERENCE_SEED, load_reference
from kod_bench.sweeps.trial.rows import make_row
from kod_bench.sweeps.trial.subject import Subject
from kod_bench.training import TrainedModel

_log = logging.getLogger(__name__)


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
    count = wanted(subject.sweep, trial, pruned_at)
    drawer = make_drawer(subject, model.network, device, count)
    drawn = []
    for scoring in scored_ways(trial, pruned_at):
        drawer.draw(scoring, report)
        each = drawer.samples(scoring)
        write_grid(subject.folder / grid_file(*astuple(scoring)), each.images.first(GRID_IMAGES))
        if trial.dataset_options.on_sphere:
            shown = each.images.first(MAPS_SHOWN)
            write_mollweide(subject.folder / maps_file(*astuple(scoring)), shown)
        drawn.append(each)

    orders = draw_forward_ends(subject, device)
    likelihood = held_out_likelihood(subject, model.network, device, pruned_at is not None)
    report(Status("scoring"))
    extractor = make_extractor(options.features, device)
    reference = load_reference(subject, extractor, count, device)
    rows = []
    for each in drawn:
        # Of training, then of sampling; one word if they agree.
        precision = ", ".join(dict.fromkeys((*model.precisions, *each.precisions)))
        keeps = keeping(extractor, subject, each.images.shards, device)
        measured = (reference, each, orders, likelihood)
        rows.append(make_row(subject, model, precision, keeps, *measured, device))
        each.images.shards.finish(count)
        manifest = each.images.shards.path / MANIFEST_FILE
        names = [manifest.relative_to(subject.folder).as_posix()]
        put_files(subject.sweep, trial, names)
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


def keeping(
    extractor: FeatureExtractor, subject: Subject, shards: ShardFolder, device: torch.device
) -> KeptFeatures:
    """The extractor; what it computes lies beside the shards, for as long as the trial is not done.

    A trial that is killed while it is scored goes on with the images that were not looked at yet.
    """
    sweep, trial, way = subject.sweep, subject.trial, shards.path.name
    return KeptFeatures(
        extractor,
        shards.path,
        f"{current_code()} torch {torch.__version__} {device.type}",
        fetch=lambda name: fetch_file(sweep, trial, way, name),
        put=lambda name: put_files(sweep, trial, [f"{SAMPLES}/{way}/{name}"]),
    )


def rung_value(subject: Subject, network: nn.Module, device: torch.device) -> float:
    """The trial's `rung_metric` of few samples of a network in training.

    They are drawn in the way that the trial is judged by.
    """
    options = subject.trial.evaluation_options
    predict = make_runner(network, device, False)  # compiling takes longer than so few samples
    scoring, count = judged_by(subject.trial.scorings), _few(subject.sweep, subject.trial)
    images = draw_unstored(subject, predict, scoring, count, device)
    extractor = make_extractor(options.features, device)
    reference = load_reference(subject, extractor, count, device)
    name = rung_metric(subject.sweep, subject.trial)
    (only,) = choose_metrics([name])
    seen = extractor if only.needs == "features" else None
    measured = Measured.of(images, seen, with_texture=False)
    value = score_samples(measured, reference.measured, REFERENCE_SEED, [only])[name]
    return math.nan if value is None else value


def make_drawer(subject: Subject, network: nn.Module, device: torch.device, count: int) -> Drawer:
    """Draws so many samples of each way of a trained network."""
    predict = make_runner(network, device, subject.trial.training_section.fast)
    return Drawer(subject, network, predict, device, count)


def wanted(sweep: Sweep, trial: Trial, pruned_at: int | None) -> int:
    """How many samples of each way are scored."""
    return trial.evaluation_options.samples if pruned_at is None else _few(sweep, trial)


def scored_ways(trial: Trial, pruned_at: int | None) -> list[Scoring]:
    """The ways in which a trained model is scored; of one that was pruned, the first alone."""
    return trial.scorings if pruned_at is None else [judged_by(trial.scorings)]


def _few(sweep: Sweep, trial: Trial) -> int:
    """How many samples a trial is judged by at a rung."""
    full, pruner = trial.evaluation_options.samples, sweep.early_stopping
    return full if pruner is None else min(full, pruner.samples)
