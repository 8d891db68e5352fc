"""What a search space would run: everything is validated that can be before Ray starts."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kod_bench.data import DatasetOptions, ImageDataset, load_dataset
from kod_bench.evaluation import choose_extractor, marks
from kod_bench.storage import Location
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.networks import check_networks
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.space import SearchSpace
from kod_bench.sweeps.space.evaluation import AUTO_BYTES


@dataclass(frozen=True)
class Planned:
    """A sweep that could start, and of which nothing is on disk.

    Attributes:
        space: resolved, the feature extractor chosen.
        datasets: opened, for each of the options in its variants.
        trials: what would run.
    """

    space: SearchSpace
    datasets: dict[DatasetOptions, ImageDataset]
    trials: tuple[Trial, ...]


def plan_sweep(
    space: SearchSpace, *, data_dir: Location | None, say: Callable[[str], None]
) -> Planned:
    """Validate everything that can be known before Ray starts.

    Args:
        space: resolved.
        data_dir: folder of images; None for the built-in generator.
        say: receives lines about what is being done.

    Raises:
        UsageError: with one line, if any of it cannot work.
        kod_bench.data.DataError: likewise, for the images.
    """
    features, remark = choose_extractor(space.options.evaluation.features)
    if remark:
        say(remark)
    # Frozen in the plan: all trials, and those of a resume, use the same one.
    space = _with_features(space, features)
    options = space.options
    datasets, settled = {}, {}
    for wanted in dict.fromkeys(variant.dataset for variant in space.variants):
        dataset = load_dataset(wanted, data_dir, progress=_sparing(say))
        settled[wanted] = dataset.options
        datasets[dataset.options] = dataset
        for warning in dataset.warnings:
            say(f"warning: {warning}")
        say(f"data: {dataset.name}: {dataset.description}")
        for what, count, have in (
            ("samples", options.evaluation.samples, len(dataset.train)),
            ("references", options.evaluation.references, len(dataset.test)),
        ):
            if have < count:
                say(f"warning: evaluation.{what} is {count}, but there are only {have} real images")
    if (mark := marks(options.evaluation.samples)) is not None:
        say(f"warning: {mark}; every row says so")
    # Frozen in the plan, too: rows say what `auto` stood for, and no trial finds it out anew.
    space = _with_datasets(space, settled)
    check_networks(space, {each: data.train.shape[1] for each, data in datasets.items()})
    say(_kept_samples(space, datasets))
    hashes = {each: dataset.content_hash for each, dataset in datasets.items()}
    return Planned(space, datasets, make_trials(space, hashes))


def _with_features(space: SearchSpace, features: str) -> SearchSpace:
    evaluation = space.options.evaluation.model_copy(update={"features": features})
    options = space.options.model_copy(update={"evaluation": evaluation})
    return space.model_copy(update={"options": options})


def _kept_samples(space: SearchSpace, datasets: Mapping[DatasetOptions, ImageDataset]) -> str:
    """Whether the trials' samples stay, and what room they take, in a line."""
    options = space.options.evaluation
    drawn, kept = [], []
    for variant in space.variants:
        images = datasets[variant.dataset].train
        each = math.prod(images.shape[1:]) * images.element_size()  # bytes
        ways = len(variant.priors) * len(variant.samplers) * len(variant.network_evaluations)
        drawn.append(options.samples * each * ways)
        kept.append(options.kept(options.samples, each, ways) * each * ways)
    how = f"evaluation.keep_samples: {options.keep_samples}"
    if options.keep_samples == "auto":
        how += f", up to {as_size(AUTO_BYTES)} a trial"
    if not any(kept):
        return f"samples: dropped once scored, of {as_size(max(drawn))} a trial ({how})"
    total = sum(kept) * len(space.options.seeds)
    return f"samples: kept, {as_size(max(kept))} a trial, {as_size(total)} in all ({how})"


def as_size(count: float) -> str:
    """Bytes, as one says them."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count / 2**10:.3g} KiB"


def _with_datasets(
    space: SearchSpace, settled: Mapping[DatasetOptions, DatasetOptions]
) -> SearchSpace:
    variants = tuple(
        variant.model_copy(update={"dataset": settled[variant.dataset]})
        for variant in space.variants
    )
    return space.model_copy(update={"variants": variants})


def _sparing(say: Callable[[str], None], interval: float = 5.0) -> Callable[[str], None]:
    """Pass on a line only if the last one is some seconds old: quick work goes unmentioned."""
    last = time.monotonic()

    def progress(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= interval:
            last = time.monotonic()
            say(line)

    return progress
