"""From a search space's name to a sweep on disk that is ready to run."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from kod_bench.data import load_dataset
from kod_bench.diffusion import PROCESSES
from kod_bench.errors import UsageError
from kod_bench.evaluation import choose_extractor, marks
from kod_bench.networks import make_network, parameter_count
from kod_bench.results import REAL_FILE, provenance
from kod_bench.sweeps.plan import Sweep, Trial, check_writable, create_sweep, make_trials
from kod_bench.sweeps.runner import check_local_resources, cluster_has_gpus
from kod_bench.sweeps.scoring import GRID_IMAGES, write_grid
from kod_bench.sweeps.space import SearchSpace, find_space, load_space


def prepare_sweep(
    name: str,
    *,
    profile: str,
    data_dir: Path | None,
    results_dir: Path,
    seeds: Sequence[int] | None,
    address: str | None,
    say: Callable[[str], None],
) -> Sweep:
    """Validate everything that can be known before Ray starts, then write the plan.

    Args:
        name: of a search space, or a path to one.
        profile: one of the space's profiles, or "auto".
        data_dir: folder of images; None for the built-in generator.
        results_dir: where sweeps are kept.
        seeds: in place of the space's own.
        address: of a running cluster, None for this machine.
        say: receives lines about what is being done.

    Raises:
        UsageError: with one line, if any of it cannot work.
        kod_bench.data.DataError: likewise, for the images.
    """
    path = find_space(name)
    space = load_space(path, profile, has_gpus=profile == "auto" and _has_gpus(address))
    say(f"search space {path}, profile {space.profile}")
    if seeds is not None:
        space = space.model_copy(
            update={"options": space.options.model_copy(update={"seeds": tuple(seeds)})}
        )
    options = space.options
    if address is None:
        check_local_resources(options.resources)
    check_writable(results_dir)
    features, remark = choose_extractor(options.evaluation.features)
    if remark:
        say(remark)
    # Frozen in the plan: all trials, and those of a resume, use the same one.
    space = _with_features(space, features)
    options = space.options
    dataset = load_dataset(options.dataset, data_dir, progress=_sparing(say))
    for warning in dataset.warnings:
        say(f"warning: {warning}")
    say(f"data: {dataset.name}: {dataset.description}")
    for what, wanted, have in (
        ("samples", options.evaluation.samples, len(dataset.train)),
        ("references", options.evaluation.references, len(dataset.test)),
    ):
        if have < wanted:
            say(f"warning: evaluation.{what} is {wanted}, but there are only {have} real images")
    if (mark := marks(options.evaluation.samples)) is not None:
        say(f"warning: {mark}; every row says so")
    trials = make_trials(space, dataset.content_hash)
    _check_networks(path, trials, dataset.train.shape[1])
    sweep = create_sweep(
        space,
        trials,
        results_dir=results_dir,
        data_dir=data_dir,
        provenance=provenance.collect(),
    )
    write_grid(sweep.folder / REAL_FILE, dataset.test[:GRID_IMAGES])
    each = f"{options.training.iterations} iterations of {options.training.batch_size} images"
    say(f"sweep {sweep.folder}: {len(trials)} trials, {each} each")
    return sweep


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


def _check_networks(path: Path, trials: Sequence[Trial], channels: int) -> None:
    """Build every distinct network without memory; refuse sizes that do not fit together.

    Models with the same options are compared at equal size: beyond one percent, the table would
    compare networks. Where a model's own network section asks for another size, that is meant, and
    the report says so.
    """
    counts: dict[str, dict[tuple[str, bool], int]] = {}
    for trial in trials:
        options = trial.network_options
        periodic = PROCESSES[trial.process].periodic
        size = options.model_copy(update={"variant": None}).model_dump_json()
        equals = counts.setdefault(size, {})
        key = (str(options.variant), periodic)
        if key in equals:
            continue
        try:
            with torch.device("meta"):
                network = make_network(
                    periodic=periodic,
                    channels=channels,
                    image_size=trial.dataset_options.image_size,
                    steps=trial.steps,
                    **options.arguments(),
                )
        except ValueError as error:
            raise UsageError(f"{path}: network of {trial.model}: {error}") from error
        equals[key] = parameter_count(network)
    for equals in counts.values():
        small, large = min(equals.values()), max(equals.values())
        if large > 1.01 * small:
            raise UsageError(
                f"{path}: network: the compared models differ in size by more than 1 % "
                f"({small} to {large} parameters); widen the network"
            )
