"""From a search space's name to a sweep on disk that is ready to run."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kod_bench.data import DatasetOptions, ImageDataset, load_dataset
from kod_bench.diffusion import find_process
from kod_bench.errors import UsageError
from kod_bench.evaluation import choose_extractor, marks, write_mollweide
from kod_bench.networks import make_network, parameter_count
from kod_bench.results import REAL_FILE, REAL_MAPS_FILE, provenance
from kod_bench.storage import Location
from kod_bench.sweeps.frozen import SPACE_FILE, keep_space
from kod_bench.sweeps.plan import Sweep, Trial, check_writable, create_sweep, make_trials
from kod_bench.sweeps.ray_session import check_local_resources, cluster_has_gpus
from kod_bench.sweeps.scoring import GRID_IMAGES, write_grid
from kod_bench.sweeps.space import SearchSpace, find_space, load_space
from kod_bench.sweeps.trust import permissions


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


def open_space(
    name: str,
    *,
    profile: str,
    seeds: Sequence[int] | None,
    changes: Sequence[str],
    address: str | None,
    say: Callable[[str], None],
) -> SearchSpace:
    """Find a search space and validate it; say which file and which profile were taken.

    Args:
        name: of a search space, or a path to one.
        profile: one of the space's profiles, or "auto".
        seeds: in place of the space's own.
        changes: ``path=value`` pairs over the profile.
        address: of a running cluster, None for this machine.
        say: receives lines about what is being done.

    Raises:
        UsageError: with one line, if it is not found or not valid.
    """
    path = find_space(name)
    if seeds is not None:
        changes = [*changes, f"seeds={list(seeds)}"]
    has_gpus = profile == "auto" and _has_gpus(address)
    space = load_space(path, profile, has_gpus=has_gpus, changes=changes)
    say(f"search space {path}, profile {space.profile}")
    return space


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
    datasets = {}
    for wanted in dict.fromkeys(variant.dataset for variant in space.variants):
        dataset = datasets[wanted] = load_dataset(wanted, data_dir, progress=_sparing(say))
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
    check_networks(space, {each: data.train.shape[1] for each, data in datasets.items()})
    hashes = {each: dataset.content_hash for each, dataset in datasets.items()}
    return Planned(space, datasets, make_trials(space, hashes))


def prepare_sweep(
    name: str,
    *,
    profile: str,
    data_dir: Location | None,
    results_dir: Location,
    seeds: Sequence[int] | None,
    address: str | None,
    say: Callable[[str], None],
    changes: Sequence[str] = (),
) -> Sweep:
    """Validate everything that can be known before Ray starts, then write the plan.

    Args:
        name: see `open_space`, as for the others not named here.
        profile: as there.
        data_dir: see `plan_sweep`.
        results_dir: where sweeps are kept.
        seeds: as there.
        address: as there.
        say: as there.
        changes: as there.

    Raises:
        UsageError: with one line, if any of it cannot work.
        kod_bench.data.DataError: likewise, for the images.
    """
    space = open_space(
        name, profile=profile, seeds=seeds, changes=changes, address=address, say=say
    )
    if address is None:
        check_local_resources(space.options.resources)
    check_writable(results_dir)
    planned = plan_sweep(space, data_dir=data_dir, say=say)
    sweep = create_sweep(
        planned.space,
        planned.trials,
        results_dir=results_dir,
        data_dir=data_dir,
        provenance=provenance.collect(),
        hashes={each: dataset.content_hash for each, dataset in planned.datasets.items()},
    )
    keep_space(sweep.folder, Path(space.source))
    # Of several data sets, the first; each has its own table.
    options, first = next(iter(planned.datasets.items()))
    write_grid(sweep.folder / REAL_FILE, first.test[:GRID_IMAGES])
    kept = [REAL_FILE, SPACE_FILE]
    if options.on_sphere:
        write_mollweide(sweep.folder / REAL_MAPS_FILE, first.test)
        kept.append(REAL_MAPS_FILE)
    if sweep.remote is not None:
        sweep.remote.upload(kept, sweep.folder)
    say(f"sweep {sweep.shown}: {sweep.total} trials, {_work(space)} each")
    return replace(sweep, permissions=permissions(sweep))


def _work(space: SearchSpace) -> str:
    """How much training one trial is: the same for all, or from the least to the most."""
    iterations = [variant.training.iterations for variant in space.variants]
    batches = [variant.training.batch_size for variant in space.variants]
    return f"{_span(iterations)} iterations of {_span(batches)} images"


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _with_features(space: SearchSpace, features: str) -> SearchSpace:
    evaluation = space.options.evaluation.model_copy(update={"features": features})
    options = space.options.model_copy(update={"evaluation": evaluation})
    return space.model_copy(update={"options": options})


def _sparing(say: Callable[[str], None], interval: float = 5.0) -> Callable[[str], None]:
    """Pass on a line only if the last one is some seconds old: quick work goes unmentioned."""
    last = time.monotonic()

    def progress(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= interval:
            last = time.monotonic()
            say(line)

    return progress


def _has_gpus(address: str | None) -> bool:
    return torch.cuda.is_available() if address is None else cluster_has_gpus(address)


def guessed_channels(space: SearchSpace) -> dict[DatasetOptions, int]:
    """C of the images by what is asked for, without opening them."""
    return {v.dataset: 3 if v.dataset.color == "rgb" else 1 for v in space.variants}


def check_networks(space: SearchSpace, channels: Mapping[DatasetOptions, int]) -> None:
    """Build every distinct network without memory; refuse sizes that do not fit together.

    Models with the same options are compared at equal size: beyond one percent, the table would
    compare networks. Where a model's own network section asks for another size, that is meant, and
    the report says so.

    Args:
        space: resolved.
        channels: C of the images, for each of the options in its variants.

    Raises:
        UsageError: naming the model, or the sizes.
    """
    # By what models share (sizes and image), then by what makes two networks different.
    counts: dict[tuple[object, ...], dict[tuple[object, ...], int]] = {}
    for variant in space.variants:
        options = variant.network
        periodic = find_process(variant.process).periodic
        image = (channels[variant.dataset], variant.dataset.image_size)
        try:
            find_process(variant.process).check_shape((image[0], *variant.dataset.image_shape))
        except ValueError as error:
            raise UsageError(f"{space.source}: {variant.label}: {error}") from error
        sizes = tuple(v for name, v in options if name != "variant")
        equals = counts.setdefault((*sizes, *image), {})
        key = (options.variant, periodic)
        if key in equals:
            continue
        try:
            with torch.device("meta"):
                network = make_network(
                    periodic=periodic,
                    channels=image[0],
                    image_size=image[1],
                    steps=variant.steps,
                    **options.arguments(),
                )
        except ValueError as error:
            raise UsageError(f"{space.source}: network of {variant.label}: {error}") from error
        equals[key] = parameter_count(network)
    for equals in counts.values():
        small, large = min(equals.values()), max(equals.values())
        if large > 1.01 * small:
            raise UsageError(
                f"{space.source}: network: the compared models differ in size by more than 1 % "
                f"({small} to {large} parameters); widen the network"
            )
