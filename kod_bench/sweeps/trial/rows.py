"""What was measured of the samples of one way, as a row and for a report's figures."""

import json
import logging
import math
import time
from dataclasses import astuple
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from kod_bench.atomic import atomic_write
from kod_bench.data import known_spectrum
from kod_bench.diffusion import DiffusionProcess, Likelihood
from kod_bench.evaluation import (
    FeatureExtractor,
    Measured,
    Reference,
    Scores,
    marks,
    write_nearest_pairs,
)
from kod_bench.evaluation import score as score_samples
from kod_bench.evaluation.angular import AngularSpectrum, spectrum_distance
from kod_bench.networks import parameter_count
from kod_bench.results import (
    FORWARD_START,
    LIKELIHOOD_UNITS,
    TERMINAL_COLUMNS,
    Row,
    measured_file,
    nearest_file,
    provenance,
)
from kod_bench.sweeps.plan.needed_plugins import needed_plugins
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.trial.drawing import Samples
from kod_bench.sweeps.trial.reference import REFERENCE_SEED
from kod_bench.sweeps.trial.subject import Subject
from kod_bench.training import TrainedModel

_log = logging.getLogger(__name__)


def make_row(
    subject: Subject,
    model: TrainedModel,
    precision: str,
    extractor: FeatureExtractor,
    reference: Reference,
    drawn: Samples,
    orders: list[tuple[int, float]],
    likelihood: Likelihood | None,
    device: torch.device,
) -> Row:
    """Measure the samples of one way, leave the pictures and numbers of a report, make the row.

    Args:
        subject: the trial.
        model: trained.
        precision: of training and sampling, in a word.
        extractor: of the features.
        reference: what the samples are compared with.
        drawn: the samples.
        orders: the mean order parameter of forward chains, (t, value), for phases.
        likelihood: of held-out images under the model, if there is one.
        device: where features are computed.
    """
    sweep, trial = subject.sweep, subject.trial
    dataset, process = subject.dataset, subject.process
    images = drawn.images
    began = time.monotonic()
    on_sphere = trial.dataset_options.on_sphere
    measured = Measured.of(
        images,
        extractor,
        dataset.train,
        device,
        on_sphere=on_sphere,
        count=len(images),
        spool=images.shards.path,
    )
    scores = score_samples(measured, reference.measured, REFERENCE_SEED)
    evaluation_seconds = time.monotonic() - began
    way = astuple(drawn.scoring)
    _log.info("%s, %s, %d evaluations: KID %.4g, FID %.4g", *way, scores["kid"], scores["fid"])
    if (correlation := scores["correlation_distance"]) is not None:
        _log.info("correlation distance %.4g", correlation)
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
        kind=process.kind,
        steps=trial.steps,
        seed=trial.seed,
        config=trial.config,
        config_hash=trial.config_hash,
        trained_hash=trial.trained_hash,
        scored_hash=trial.scored_hash,
        reused=None if trial.reused is None else trial.reused.shown,
        rehearsal=None if sweep.rehearsal is None else True,
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
        **likelihood_columns(likelihood),
        training_seconds=model.seconds,
        resumed_from=model.resumed_from,
        resumed_exactly=model.exact,
        precision=precision,
        prior=drawn.scoring.prior,
        sampler=drawn.scoring.sampler,
        network_evaluations=drawn.scoring.network_evaluations,
        sampling_seconds=drawn.seconds,
        **order_parameters(process, measured, reference.measured),
        **_terminal(process, drawn.scoring.prior),
        **_quality(scores, reference),
        **_from_known_spectrum(subject, measured, reference),
        marks=_marks(trial, marks(len(images), on_sphere, are_angles=dataset.values == "angles")),
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
        plugins=_plugins(trial),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def likelihood_columns(found: Likelihood | None) -> dict[str, Any]:
    """A likelihood as columns: those of its unit, and how it came about."""
    columns: dict[str, Any] = {}
    for name in LIKELIHOOD_UNITS:
        columns |= {name: None, f"{name}_error": None}
    columns |= dict.fromkeys(f"likelihood_{what}" for what in ("images", "evaluations", "method"))
    if found is not None:
        (name,) = (name for name, unit in LIKELIHOOD_UNITS.items() if unit == found.unit)
        error = found.standard_error
        columns |= {name: found.mean, f"{name}_error": None if math.isnan(error) else error}
        columns["likelihood_images"] = len(found.values)
        columns["likelihood_evaluations"] = found.evaluations
        columns["likelihood_method"] = found.method
    return columns


def _marks(trial: Trial, of_scores: str | None) -> str | None:
    """What to bear in mind, that another trial's training was continued included."""
    reused = trial.reused
    if reused is None:
        return of_scores
    start = reused.continued_from if reused.is_trained else reused.iterations
    if start is None:
        return of_scores
    said = f"trained on from a model of {start} iterations"
    return said if of_scores is None else f"{said}; {of_scores}"


def _plugins(trial: Trial) -> str | None:
    """The plug-ins behind a row as they are installed here, which the plan's need not be."""
    names = (trial.process, trial.dataset["name"], trial.evaluation["features"])
    said = [each.identity() for each in needed_plugins(*names)]
    return json.dumps(said) if said else None


def order_parameters(
    process: DiffusionProcess, samples: Measured, reference: Measured
) -> dict[str, Any]:
    """Both by the map of `texture`, whatever `phase_margin` a process has: equal for equal images.

    So models of different margins compare, too. That of samples is None but for phases, and for
    data that are angles, whose own it is.
    """
    found = {
        "order_parameter": samples.order if process.periodic or samples.angles else None,
        "order_parameter_data": reference.order,
    }
    return {name: None if each is None else float(each.mean()) for name, each in found.items()}


def _write_measured(
    path: Path,
    drawn: Samples,
    orders: list[tuple[int, float]],
    measured: Measured,
    reference: Reference,
) -> None:
    """Leave the numbers that a report's figures need: they are no columns of a table."""
    found: dict[str, Any] = {}
    if drawn.order_backward is not None:
        found["order_backward"] = drawn.order_backward
        found["order_forward"] = orders
    if measured.texture is not None and reference.measured.texture is not None:
        for name, texture in (("samples", measured.texture), ("data", reference.measured.texture)):
            found[f"orientation_{name}"] = texture.orientation.tolist()
    with atomic_write(path) as file:
        file.write(json.dumps(found).encode())


def _quality(scores: Scores, reference: Reference) -> dict[str, Any]:
    columns = {**scores, **{f"{column}_real": value for column, value in reference.real.items()}}
    del columns["memorised_share_real"]  # the quantile that defines it
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
