"""From a search space's name to a sweep on disk that is ready to run."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from kod_bench.evaluation import write_mollweide
from kod_bench.results import REAL_FILE, REAL_MAPS_FILE, provenance
from kod_bench.storage import Location
from kod_bench.sweeps.cluster.ray_session import check_local_resources, cluster_has_gpus
from kod_bench.sweeps.plan.frozen import SPACE_FILE, keep_space
from kod_bench.sweeps.plan.planned import plan_sweep
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.space import SearchSpace, find_space, load_space
from kod_bench.sweeps.store.create import check_writable, create_sweep
from kod_bench.sweeps.store.plugged import permissions
from kod_bench.sweeps.trial.grid import GRID_IMAGES, write_grid


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
    confirm: Callable[[SearchSpace], None] = lambda _: None,
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
        confirm: given the space once it is known that it can run, before images are prepared;
            raises if it is not to be.

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
    confirm(space)
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


def _has_gpus(address: str | None) -> bool:
    return torch.cuda.is_available() if address is None else cluster_has_gpus(address)
