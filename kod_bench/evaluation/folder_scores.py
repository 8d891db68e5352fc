"""Scores of a folder of images, made by any tool, against another folder or a data set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError

import kod_bench
from kod_bench.data.angle_options import ANGLES_PREFIX
from kod_bench.data.depths import ValueRange
from kod_bench.data.options import FOLDER_PREFIX, DatasetOptions
from kod_bench.errors import UsageError
from kod_bench.evaluation.against import Against, DatasetAgainst, FolderAgainst, Job, Real, Tick
from kod_bench.evaluation.angle_folder import AngleFolder
from kod_bench.evaluation.arrays import SUFFIXES, is_array
from kod_bench.evaluation.extractors import choose_extractor, make_extractor
from kod_bench.evaluation.folders import ImageFolder, check_apart, check_no_copy, choose_range
from kod_bench.evaluation.measured import Measured
from kod_bench.evaluation.memorisation import LEAST_HELD_OUT
from kod_bench.evaluation.metrics import (
    METRICS,
    Metric,
    Scores,
    choose_metrics,
    marks,
    score,
)
from kod_bench.evaluation.minutiae import MIN_SIDE as SMALLEST_WITH_MINUTIAE
from kod_bench.evaluation.texture import MIN_SIDE
from kod_bench.storage import Location, local_path

Say = Callable[[str], None]


@dataclass(frozen=True)
class FolderScores:
    """Everything that ``kod-bench evaluate`` prints.

    Attributes:
        generated: the folder that was scored.
        against: the reference: a folder, or a data set's name.
        features: the extractor's name; None if no metric needed one.
        seed: of the metrics' subsets, and of the choice of real images in place of samples.
        value_range: what became 0 and 255, of files that are not 8-bit; None: of 16 bits the upper
            8 were kept.
        metrics: what was asked for.
        scores: a value per column.
        real: the same for real images in place of the samples.
        sample_count: images in `generated`.
        reference_count: images of the reference.
        real_counts: how many real images stood in for samples, against how many; None without.
        train_count: training images that samples were looked for in; None without.
        reference_hash: of the reference's pixels.
        notes: what to bear in mind.
    """

    generated: str
    against: str
    features: str | None
    seed: int
    value_range: ValueRange | None
    metrics: tuple[Metric, ...]
    scores: Scores
    real: Scores
    sample_count: int
    reference_count: int
    real_counts: tuple[int, int] | None
    train_count: int | None
    reference_hash: str
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: plain types only."""
        plain = {k: v for k, v in vars(self).items() if k not in ("metrics", "scores", "real")}
        plain["metrics"] = {
            column: {
                "value": self.scores[column],
                "real_versus_real": self.real[column],
                "better": metric.better,
                "source": metric.source,
            }
            for metric in self.metrics
            for column in metric.columns
        }
        return plain | {"version": kod_bench.__version__}


def score_folder(
    generated: Path,
    against: str,
    *,
    train: Path | None = None,
    data_dir: Location | None = None,
    options: Mapping[str, Any] | None = None,
    features: str = "auto",
    columns: Sequence[str] = (),
    value_range: ValueRange | Literal["auto"] | None = None,
    seed: int = 0,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    say: Say = lambda _: None,
    tick: Tick = lambda *_: None,
) -> FolderScores:
    """Score a folder of images.

    Between two folders of opaque 8-bit images this is clean-fid's mode ``clean``: same conversion
    to RGB, same resize where the extractor is `inception` or any other `CleanFidExtractor`; and,
    with one seed, the same subsets for KID.

    Args:
        generated: folder of samples, or a `.npy` or `.npz` file of them.
        against: likewise of reference images; or else the name of a data set, whose held-out images
            at the samples' size are the reference.
        train: folder of training images, among which samples are looked for, and which stand in
            for them in the real-versus-real values. A data set has its own.
        data_dir: where a named data set's images are; None for its built-in ones.
        options: of a named data set, beside its name and `image_size`.
        features: an extractor's name; see `make_extractor`.
        columns: of metrics; none for all.
        value_range: what becomes 0 and 255, of files in these folders that are not 8-bit; "auto"
            for the lowest and the highest value in all of them.
        seed: of subsets and choices.
        batch_size: images read and handed to the extractor at a time.
        device: where to run the extractor.
        say: receives remarks.
        tick: receives progress.

    Raises:
        UsageError: with one line, for whatever the user can mend.
    """
    metrics = choose_metrics(columns) if columns else METRICS
    are_angles = _holds_angles(against)
    if are_angles and value_range is not None:
        raise UsageError(f"--value-range: {against} holds angles, which have a range of their own")
    samples = AngleFolder(generated) if are_angles else ImageFolder(generated)
    reference = _open(against, train, samples, data_dir, options or {}, say)
    for folder in reference.folders:
        check_apart(folder, samples)
    for folder in reference.folders[:1]:
        check_no_copy(samples, folder)
    folders = (samples, *reference.folders)
    read_by = None if are_angles else choose_range(value_range, folders)
    deep = any(folder.is_deep for folder in folders)
    if not columns:  # nobody misses what these images have not
        missed = {"spectrum": reference.on_sphere, "angles": are_angles, "texture": not are_angles}
        smallest = min(map(min, samples.sizes | reference.sizes))
        missed["minutiae"] = not are_angles and smallest >= SMALLEST_WITH_MINUTIAE
        metrics = tuple(metric for metric in METRICS if missed.get(metric.needs, True))
    possible, notes = _possible(metrics, samples, reference, insist=bool(columns))

    extractor = None
    if isinstance(reference, DatasetAgainst) or any(m.needs == "features" for m in possible):
        chosen, remark = choose_extractor(features)
        if remark:
            say(remark)
        extractor = make_extractor(chosen, device)
    job = Job(possible, extractor, seed, batch_size, device, tick)
    looks_for_training = any(metric.needs == "nearest" for metric in possible)
    training = reference.train() if looks_for_training else None
    measured, content = job.measure(samples, training)
    real = reference.measure(job, len(samples))
    if content == real.content_hash:
        notes.append("the two folders hold the same images: FID is 0, and KID, unbiased, below 0")
    return FolderScores(
        generated=str(generated),
        against=against,
        features=None if extractor is None else extractor.name,
        seed=seed,
        value_range=read_by,
        metrics=metrics,
        scores=_filled(metrics, score(measured, real.measured, seed, possible)),
        real=_filled(metrics, real.scores),
        sample_count=measured.count,
        reference_count=real.measured.count,
        real_counts=real.counts,
        train_count=None if training is None else len(training),
        reference_hash=real.content_hash,
        notes=(
            *notes,
            *_remarks(metrics, measured, real, reference),
            *(
                ()
                if value_range is None or deep
                else ("value_range changes nothing: all images have 8 bits",)
            ),
            *(f"{folder.path}: {note}" for folder in folders for note in folder.notes),
        ),
    )


def _holds_angles(against: str) -> bool:
    """Whether a reference's name is that of a data set of angles."""
    try:
        return DatasetOptions(name=against, image_size=32).values == "angles"
    except ValidationError:  # a folder, or nothing: `_open` says what
        return False


def _open(
    against: str,
    train: Path | None,
    samples: ImageFolder,
    data_dir: Location | None,
    options: Mapping[str, Any],
    say: Say,
) -> Against:
    path = local_path(against)
    if path.is_dir() or (path.is_file() and is_array(path)):
        if (group := options.get("group")) is not None:
            raise UsageError(f"--group {group!r}: divides a named data set; {against} is none")
        return FolderAgainst(path, train)
    if not against.startswith((FOLDER_PREFIX, ANGLES_PREFIX)) and (
        path.exists() or len(path.parts) > 1
    ):
        raise UsageError(
            f"{against}: is not a folder, nor a file {' or '.join(SUFFIXES)}"
            if path.exists()
            else f"{against}: does not exist"
        )
    if train is not None:
        raise UsageError(f"--train {train}: a data set ({against}) has training images of its own")
    (height, width), *others = samples.sizes
    on_sphere = against == "sphere"
    if others or width != height * (2 if on_sphere else 1):
        kind = "maps, twice as wide as high," if on_sphere else "square images"
        raise UsageError(
            f"{samples.path}: must hold {kind} of one size to be scored against the data "
            f"set {against}, and holds {_listed(samples.sizes)}"
        )
    return DatasetAgainst({"name": against, "image_size": height, **options}, data_dir, say)


def _possible(
    metrics: Sequence[Metric], samples: ImageFolder, reference: Against, insist: bool
) -> tuple[list[Metric], list[str]]:
    """The metrics that these images allow, and why not the others.

    Raises:
        UsageError: if one is not possible and the user insists.
    """
    sizes = samples.sizes | reference.sizes
    reasons: dict[str, str] = {}
    if not reference.on_sphere:
        reasons["spectrum"] = "maps of the sphere are needed; score against the data set sphere"
    if not reference.are_angles:
        reasons["angles"] = "angles are needed; score against xy, flow, orientation or angles:PATH"
    if len(sizes) > 1 or min(map(min, sizes)) < MIN_SIDE:
        reasons["texture"] = reasons["nearest"] = reasons["order"] = (
            f"images of one size, at least {MIN_SIDE} pixels, are needed; there are "
            f"{_listed(sizes)}"
        )
    if "texture" in reasons or min(map(min, sizes)) < SMALLEST_WITH_MINUTIAE:
        reasons["minutiae"] = (
            f"images of one size, at least {SMALLEST_WITH_MINUTIAE} pixels, are needed; there are "
            f"{_listed(sizes)}"
        )
    if reference.are_angles:
        reasons["texture"] = reasons["minutiae"] = "angles have no gray levels"
    if not reference.has_train:
        reasons["nearest"] = "training images are needed; name their folder with --train"
    left_out: dict[str, list[str]] = {}
    for metric in metrics:
        if reason := reasons.get(metric.needs):
            left_out.setdefault(reason, []).extend(metric.columns)
    notes = [f"no {', '.join(columns)}: {reason}" for reason, columns in left_out.items()]
    if notes and insist:
        raise UsageError(f"--metrics: {notes[0]}")
    return [metric for metric in metrics if metric.needs not in reasons], notes


def _remarks(
    metrics: Sequence[Metric], samples: Measured, real: Real, reference: Against
) -> list[str]:
    columns = {column for metric in metrics for column in metric.columns}
    remarks = []
    found = marks(
        samples.count, reference.on_sphere, real.measured.count, are_angles=reference.are_angles
    )
    if "fid" in columns and found is not None:
        remarks.append(found)
    if "memorised_share" in columns and samples.nearest and real.measured.count < LEAST_HELD_OUT:
        remarks.append(
            f"no memorised_share: at least {LEAST_HELD_OUT} reference images are needed; there are "
            f"{real.measured.count}"
        )
    if real.counts is not None:
        one, two = real.counts
        remarks.append(
            f"real versus real: {one} training images against {two} references"
            if two == real.measured.count
            else f"real versus real: {one} references against {two}, the halves of the reference"
        )
    return remarks


def _filled(metrics: Sequence[Metric], scores: Scores) -> Scores:
    return {column: scores.get(column) for metric in metrics for column in metric.columns}


def _listed(sizes: set[tuple[int, int]]) -> str:
    shown = [f"{width}x{height}" for height, width in sorted(sizes)]
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return ", ".join(shown[:3]) + more
