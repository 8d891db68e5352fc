"""From a search space's name, or a sweep's, to a sweep on disk that is ready to run."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from kod_bench.data import DatasetOptions, ImageDataset, load_dataset
from kod_bench.errors import UsageError
from kod_bench.evaluation import marks, write_mollweide
from kod_bench.inside import is_name
from kod_bench.results import REAL_FILE, REAL_MAPS_FILE, provenance
from kod_bench.storage import Location
from kod_bench.sweeps.cluster.ray_session import check_local_resources, cluster_has_gpus
from kod_bench.sweeps.cluster.share import WHOLE, Share
from kod_bench.sweeps.cost.saved import reuse_line, reuse_trials
from kod_bench.sweeps.plan.frozen import SPACE_FILE, keep_space
from kod_bench.sweeps.plan.make import canonical_json, current_code
from kod_bench.sweeps.plan.planned import plan_sweep
from kod_bench.sweeps.plan.rescoring import Rescoring, rescored
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.space import SearchSpace, find_space, load_space
from kod_bench.sweeps.store.create import check_writable, create_rescoring, create_sweep
from kod_bench.sweeps.store.donors import Donor, finished, made_by, with_donors
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
    share: Share = WHOLE,
) -> SearchSpace:
    """Find a search space and validate it; say which file and which profile were taken.

    Args:
        name: of a search space, or a path to one.
        profile: one of the space's profiles, or "auto".
        seeds: in place of the space's own.
        changes: ``path=value`` pairs over the profile.
        address: of a running cluster, None for this machine.
        say: receives lines about what is being done.
        share: of this machine.

    Raises:
        UsageError: with one line, if it is not found or not valid.
    """
    path = find_space(name)
    if seeds is not None:
        changes = [*changes, f"seeds={list(seeds)}"]
    has_gpus = profile == "auto" and _has_gpus(address, share)
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
    reused: Sequence[Sweep] = (),
    confirm: Callable[[SearchSpace], None] = lambda _: None,
    share: Share = WHOLE,
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
        reused: sweeps whose finished trials are taken over.
        confirm: given the space once it is known that it can run, before images are prepared;
            raises if it is not to be.
        share: of this machine.

    Raises:
        UsageError: with one line, if any of it cannot work.
        kod_bench.data.DataError: likewise, for the images.
    """
    space = open_space(
        name, profile=profile, seeds=seeds, changes=changes, address=address, say=say, share=share
    )
    if address is None:
        check_local_resources(space.options.resources, share)
    check_writable(results_dir)
    confirm(space)
    planned = plan_sweep(space, data_dir=data_dir, say=say)
    taken = reuse_trials(planned, reused, say)
    sweep = create_sweep(
        planned.space,
        taken.trials,
        results_dir=results_dir,
        data_dir=data_dir,
        provenance=provenance.collect(),
        hashes={each: dataset.content_hash for each, dataset in planned.datasets.items()},
    )
    keep_space(sweep.folder, Path(space.source))
    # Of several data sets, the first; each has its own table.
    _keep_real(sweep, *next(iter(planned.datasets.items())), beside=[SPACE_FILE])
    say(f"sweep {sweep.shown}: {sweep.total} trials, {_work(space)} each")
    if reused:
        say(reuse_line(taken))
    found = replace(sweep, permissions=permissions(sweep))
    return with_donors(found, [each.location for each in reused])


def prepare_rescore(
    parent: Sweep,
    rescoring: Rescoring,
    chosen: Callable[[Trial], bool],
    *,
    results_dir: Location,
    address: str | None,
    say: Callable[[str], None],
    share: Share = WHOLE,
) -> Sweep:
    """Validate all that can be known before Ray starts, then write a plan that trains nothing.

    Args:
        parent: whose trained models are scored.
        rescoring: how.
        chosen: which of its trials.
        results_dir: where sweeps are kept.
        address: of a running cluster, None for this machine.
        say: receives lines about what is being done.
        share: of this machine.

    Raises:
        UsageError: with one line, if any of it cannot work.
        kod_bench.data.DataError: likewise, for the images.
    """
    if not is_name(parent.space):
        raise UsageError(f"{parent.shown}: its space {parent.space!r} is no name of a folder")
    resources = rescoring.resources(parent.resources)
    if address is None:
        check_local_resources(resources, share)
    check_writable(results_dir)
    donors = _trained(parent, chosen, say)
    trials = rescored(
        [(each.trial, each.give("model")) for each in donors], rescoring, current_code()
    )
    datasets: dict[str, ImageDataset] = {}
    for trial in trials:
        key = canonical_json(trial.dataset)
        if key not in datasets:
            datasets[key] = load_dataset(trial.dataset_options, parent.data_dir)
            say(f"data: {datasets[key].name}: {datasets[key].description}")
        if datasets[key].content_hash != trial.data_hash:
            place = trial.dataset_options.folder or parent.data_dir
            others = "its models were trained on other images than " + (
                "are built in here; copy the cache of prepared images (KOD_BENCH_CACHE) from where "
                "they were trained"
                if place is None
                else f"those that are now in {place}; put those back, or name where they are: "
                "--data-dir"
            )
            raise UsageError(f"{parent.shown}: {others}")
    options = trials[0].evaluation_options
    say(f"features: {options.features}; {options.samples} samples of each way")
    if (mark := marks(options.samples)) is not None:
        say(f"warning: {mark}; every row says so")
    sweep = create_rescoring(
        parent,
        trials,
        results_dir=results_dir,
        resources=resources,
        said=asdict(rescoring),
        provenance=provenance.collect(),
    )
    _keep_real(sweep, trials[0].dataset_options, next(iter(datasets.values())))
    ways = sum(len(trial.sampling) for trial in trials)
    say(f"sweep {sweep.shown}: {len(trials)} trials, {ways} ways; nothing is trained")
    found = replace(sweep, data_dir=parent.data_dir, permissions=permissions(sweep))
    return with_donors(found, [parent.location])


def _trained(
    parent: Sweep, chosen: Callable[[Trial], bool], say: Callable[[str], None]
) -> list[Donor]:
    """The finished trials of a sweep whose models can be scored.

    Raises:
        UsageError: if there are none, or one cannot be.
    """
    if parent.rehearsal is not None:
        raise UsageError(f"{parent.shown}: is a rehearsal, whose models are no results")
    if parent.code != current_code():
        raise UsageError(
            f"{parent.shown}: its models were trained by code {parent.code}, this is "
            f"{current_code()}; rescore them with that version, or train anew"
        )
    found = finished(parent)
    if found.unfinished:
        state = "the sweep is still running" if found.runs else "kod-bench resume finishes them"
        say(f"{found.unfinished} of {len(parent.trials)} trials are not done ({state})")
    donors = [each for each in found.donors if chosen(each.trial)]
    if not donors:
        what = "no trial that is done meets --model and --where" if found.donors else "no trial"
        done = "" if found.donors else " is done yet; see kod-bench status"
        raise UsageError(f"{parent.shown}: {what}{done}")
    for each in donors:
        if len(made_by(each)) > 1:
            raise UsageError(
                f"{parent.shown}: {each.trial.id} was trained by other code than "
                f"{each.trial.code}; leave it out with --model or --where"
            )
    if gone := [each for each in donors if not each.has_model]:
        more = f" (and of {len(gone) - 1} more trials)" if len(gone) > 1 else ""
        raise UsageError(
            f"{parent.shown}/trials/{gone[0].trial.id}: the checkpoint of iteration "
            f"{gone[0].iterations} is gone{more}; put it back, or leave it out with --model or "
            "--where"
        )
    return donors


def _keep_real(
    sweep: Sweep, options: DatasetOptions, dataset: ImageDataset, beside: Sequence[str] = ()
) -> None:
    """Leave pictures of real images in a sweep's folder, and put them on the store with others."""
    write_grid(sweep.folder / REAL_FILE, dataset.test[:GRID_IMAGES])
    kept = [REAL_FILE, *beside]
    if options.on_sphere:
        write_mollweide(sweep.folder / REAL_MAPS_FILE, dataset.test)
        kept.append(REAL_MAPS_FILE)
    if sweep.remote is not None:
        sweep.remote.upload(kept, sweep.folder)


def _work(space: SearchSpace) -> str:
    """How much training one trial is: the same for all, or from the least to the most."""
    iterations = [variant.training.iterations for variant in space.variants]
    batches = [variant.training.batch_size for variant in space.variants]
    return f"{_span(iterations)} iterations of {_span(batches)} images"


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _has_gpus(address: str | None, share: Share) -> bool:
    if address is None:
        return share.gpus != 0 and torch.cuda.is_available()
    return cluster_has_gpus(address)
