"""From a trained model to rows: samples, pictures of them, scores."""

import logging
import math
from dataclasses import astuple, replace

import torch
from torch import nn

from kod_bench.evaluation import Measured, choose_metrics, make_extractor, write_mollweide
from kod_bench.evaluation import score as score_samples
from kod_bench.networks import make_runner
from kod_bench.results import Row, grid_file, judged_by, maps_file, trajectory_file
from kod_bench.sweeps.plan.progress import Report, Status
from kod_bench.sweeps.trial.drawing import draw_forward_ends, draw_samples
from kod_bench.sweeps.trial.grid import GRID_IMAGES, write_grid
from kod_bench.sweeps.trial.pictures import write_trajectory
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
    predict = make_runner(model.network, device, trial.training_section.fast)
    with torch.no_grad():
        predict.warm_up(min(options.batch_size, options.samples), subject.process.state_shape)
    count = options.samples if pruned_at is None else _few(subject)
    scorings = trial.scorings if pruned_at is None else [judged_by(trial.scorings)]
    drawn = []
    for scoring in scorings:
        each = draw_samples(subject, predict, scoring, count, report, device)
        write_grid(subject.folder / grid_file(*astuple(scoring)), each.images[:GRID_IMAGES])
        if trial.dataset_options.on_sphere:
            write_mollweide(subject.folder / maps_file(*astuple(scoring)), each.images)
        way = (scoring.prior, scoring.sampler, scoring.network_evaluations)
        strip, film = (subject.folder / trajectory_file(*way, film=x) for x in (False, True))
        write_trajectory(strip, film, each.trajectory)
        drawn.append(each)

    orders = draw_forward_ends(subject, device)
    report(Status("scoring"))
    extractor = make_extractor(options.features, device)
    reference = load_reference(subject, extractor, count, device)
    # Of training, then of sampling; one word if they agree.
    precision = ", ".join(dict.fromkeys((*model.precisions, predict.precision)))
    rows = [
        make_row(subject, model, precision, extractor, reference, each, orders, device)
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
    drawn = draw_samples(subject, predict, scoring, count, None, device)
    extractor = make_extractor(options.features, device)
    reference = load_reference(subject, extractor, count, device)
    measured = Measured.of(drawn.images, extractor, with_texture=False)
    only = choose_metrics(["kid"])
    kid = score_samples(measured, reference.measured, REFERENCE_SEED, only)["kid"]
    return math.nan if kid is None else kid


def _few(subject: Subject) -> int:
    """How many samples a trial is judged by at a rung."""
    full, pruner = subject.trial.evaluation_options.samples, subject.sweep.early_stopping
    return full if pruner is None else min(full, pruner.samples)
