"""From a search space to a rehearsal on disk that is ready to run."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from kod_bench.data import DatasetOptions, ImageDataset, load_dataset
from kod_bench.errors import UsageError, one_line
from kod_bench.evaluation import choose_extractor
from kod_bench.results import provenance
from kod_bench.storage import Location
from kod_bench.sweeps.cluster.capacity import check_capacity, workers_on
from kod_bench.sweeps.cluster.share import WHOLE, Share
from kod_bench.sweeps.cluster.survey import Machine, Needs, survey
from kod_bench.sweeps.plan.make import current_code, make_trials
from kod_bench.sweeps.plan.networks import check_networks
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.rehearsal.shapes import (
    CHAINS,
    FEW_CHAINS,
    FEW_IMAGES,
    few_images,
    rehearsed,
    shapes,
)
from kod_bench.sweeps.space import ResourceOptions, SearchSpace
from kod_bench.sweeps.store.create import check_writable, create_rehearsal
from kod_bench.sweeps.store.plugged import permissions
from kod_bench.visible import visible

#: Stands in for an extractor whose weights are not there: its own come with a package.
_OTHER_FEATURES = "efficientnet-lite0"


def prepare_rehearsal(
    space: SearchSpace,
    *,
    data_dir: Location | None,
    results_dir: Location,
    address: str | None,
    grows: bool,
    say: Callable[[str], None],
    share: Share = WHOLE,
) -> Sweep:
    """Look at the machines, choose a trial for each shape, and write the plan.

    Args:
        space: resolved.
        data_dir: where the images are; None: few built-in ones are drawn.
        results_dir: where sweeps are kept.
        address: of a running cluster, None for this machine.
        grows: whether a cluster is to be waited for that holds no trial yet.
        say: receives lines about what is being done.
        share: of this machine.

    Raises:
        UsageError: with one line, if nothing can be rehearsed.
        kod_bench.data.DataError: likewise, for the images.
    """
    check_writable(results_dir)
    if isinstance(results_dir, Path):
        results_dir.mkdir(parents=True, exist_ok=True)
        results_dir = results_dir.absolute()
    would_fail: list[str] = []
    not_rehearsed: list[str] = []
    asked = space.options.evaluation.features
    features, remark = asked, ""
    try:
        features, remark = choose_extractor(asked)
    except UsageError as error:
        would_fail.append(visible(one_line(error), keep=""))
        not_rehearsed.append(f"scoring by {asked}: by {_OTHER_FEATURES} in its place")
        features = _OTHER_FEATURES
    if remark:
        say(remark)
    machines = survey(address, _needs(space, data_dir, results_dir, features, address), share)
    would_fail += problems_of(machines, address)
    resources, on_cpu, said = fitting(space.options.resources, machines, grows)
    not_rehearsed += said

    datasets = _open(space, data_dir, say)
    if any(few != options for options, few in _few(space, data_dir).items()):
        not_rehearsed.append(
            "drawing the built-in images: a few of them, at their size, stand for all"
        )
    settled = {options: dataset.options for options, dataset in datasets.items()}
    real = _with_settled(space, features, settled)
    channels = {each.options: each.train.shape[1] for each in datasets.values()}
    check_networks(real, channels)
    hashes = {each.options: each.content_hash for each in datasets.values()}
    groups = shapes(make_trials(real, hashes))
    planned: dict[str, Trial] = {}
    listed = []
    for same in groups.values():
        first = same[0].trial
        small = rehearsed(first, resources, on_cpu)
        planned.setdefault(small.id, small)
        listed += [
            {
                "rehearsed": small.id,
                "trials": each.count,
                "label": each.label,
                "trial": each.trial.values,
            }
            for each in same
        ]
    not_rehearsed += _left_out(real, on_cpu)
    total = sum(each.count for same in groups.values() for each in same)
    sweep = create_rehearsal(
        real,
        tuple(planned.values()),
        results_dir=results_dir,
        data_dir=data_dir,
        resources=resources,
        said={
            "resources": space.options.resources.model_dump(mode="json"),
            "on_cpu": on_cpu,
            "at_once": _at_once(space.options.resources, machines),
            "workers_together": _together(space.options.resources, machines),
            "free_results": _least(each.free_results for each in machines),
            "free_cache": _least(each.free_cache for each in machines),
            "would_fail": would_fail,
            "not_rehearsed": not_rehearsed,
            "real": listed,
        },
        provenance=provenance.collect(),
    )
    say(
        f"rehearsal {sweep.shown}: {len(planned)} shapes of {total} trials, each killed once and "
        "resumed; its rows are no results"
    )
    return replace(sweep, permissions=permissions(sweep))


def _needs(
    space: SearchSpace,
    data_dir: Location | None,
    results_dir: Location,
    features: str,
    address: str | None,
) -> Needs:
    folders = dict.fromkeys(v.dataset.folder for v in space.variants)
    places = [data_dir, *folders]
    return Needs(
        tuple(place for place in places if place is not None),
        results_dir,
        None if address is None else features,
        current_code(),
        Path.cwd(),
    )


def problems_of(machines: Sequence[Machine], address: str | None) -> list[str]:
    """What trials would miss; on a cluster with the names of the machines, where not on all."""
    found: dict[str, list[str]] = {}
    for each in machines:
        for problem in each.problems:
            found.setdefault(problem, []).append(each.host)
    if address is None:
        return list(found)
    return [f"on {', '.join(dict.fromkeys(hosts))}: {problem}" for problem, hosts in found.items()]


def fitting(
    wanted: ResourceOptions, machines: Sequence[Machine], grows: bool
) -> tuple[ResourceOptions, bool, list[str]]:
    """What each trial of the rehearsal occupies: as in the sweep, or what there is.

    Returns:
        It, whether the CPU stands in for a GPU, and what cannot be rehearsed therefore.
    """
    nodes = [each.resources for each in machines]
    try:
        check_capacity(wanted, nodes, "where it runs now")
    except UsageError as error:
        if grows:
            to_come = "machines that the cluster has yet to start: nobody has looked at them before"
            return wanted, False, [to_come]
        problem = one_line(error)
    else:
        return wanted, False, []
    changes: dict[str, float] = {}
    most = max((node.get("CPU", 0.0) for node in nodes), default=1.0)
    changes["cpus_per_worker"] = max(1, min(wanted.cpus_per_worker, int(most)))
    on_cpu = wanted.gpus_per_worker > max((node.get("GPU", 0.0) for node in nodes), default=0.0)
    if on_cpu:
        changes["gpus_per_worker"] = 0
    less = wanted.model_copy(update=changes)
    room = sum(workers_on(node, less) for node in nodes)
    if room < less.workers_per_trial:
        less = less.model_copy(update={"workers_per_trial": max(1, room)})
    said = [problem.partition(". Choose")[0]]
    if on_cpu:
        gpu = f"{wanted.gpus_per_worker:g} GPU of each worker"
        said.append(
            f"{gpu}: the CPU stands in for it, with {FEW_IMAGES} images at once. Memory and speed "
            "of the GPU, compiling and lower precision are not known by this"
        )
    if less.workers_per_trial < wanted.workers_per_trial:
        said.append(
            f"{wanted.workers_per_trial} workers of a trial: {less.workers_per_trial} in their "
            "place"
        )
    return less, on_cpu, said


def _at_once(resources: ResourceOptions, machines: Sequence[Machine]) -> int:
    room = sum(workers_on(each.resources, resources) for each in machines)
    return room // resources.workers_per_trial


def _together(resources: ResourceOptions, machines: Sequence[Machine]) -> int:
    """How many workers fit beside each other on one machine, where there is most room."""
    return max((workers_on(each.resources, resources) for each in machines), default=0)


def _least(found: Iterable[int | None]) -> int | None:
    return min((each for each in found if each is not None), default=None)


def _few(space: SearchSpace, data_dir: Location | None) -> dict[DatasetOptions, DatasetOptions]:
    wanted = dict.fromkeys(variant.dataset for variant in space.variants)
    return {options: few_images(options, data_dir is None) for options in wanted}


def _open(
    space: SearchSpace, data_dir: Location | None, say: Callable[[str], None]
) -> dict[DatasetOptions, ImageDataset]:
    found = {}
    for options, few in _few(space, data_dir).items():
        dataset = load_dataset(few, data_dir)
        for warning in dataset.warnings:
            say(f"warning: {warning}")
        say(f"data: {dataset.name}: {dataset.description}")
        found[options] = dataset
    return found


def _with_settled(
    space: SearchSpace, features: str, settled: dict[DatasetOptions, DatasetOptions]
) -> SearchSpace:
    """The space with the images that are there, and the extractor that works."""
    evaluation = space.options.evaluation.model_copy(update={"features": features})
    options = space.options.model_copy(update={"evaluation": evaluation})
    variants = tuple(
        variant.model_copy(update={"dataset": settled[variant.dataset]})
        for variant in space.variants
    )
    return space.model_copy(update={"options": options, "variants": variants})


def _left_out(space: SearchSpace, on_cpu: bool) -> list[str]:
    search, said = space.options.search, []
    if search.pruner is not None:
        said.append("early stopping: no trial is judged on its way")
    if search.strategy == "optuna":
        said.append("what the search will choose: as many points as it would, drawn at random")
    if on_cpu and any(name in each.parameters for each in space.variants for name in CHAINS):
        said.append(
            f"fits and pools of many chains or images: {FEW_CHAINS} of each; fitting, memory and "
            "checkpoints will be larger (docs/surviving.md, To the bit)"
        )
    return said
