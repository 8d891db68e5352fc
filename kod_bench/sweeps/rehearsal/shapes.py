"""From the trials of a sweep to those of its rehearsal: one for each shape, at its real sizes."""

import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace

from pydantic import ValidationError

from kod_bench.data import DatasetOptions
from kod_bench.sweeps.cost.estimate import Shape, shape_of
from kod_bench.sweeps.plan.trial import Scoring, Trial
from kod_bench.sweeps.space import ResourceOptions
from kod_bench.sweeps.space.variants import check_parameters

#: Iterations of a rehearsal: the first checkpoint comes after `KILLED_AFTER`.
ITERATIONS, KILLED_AFTER = 6, 3
#: Likewise, where the CPU stands in for a GPU.
FEW_ITERATIONS, FEW_KILLED_AFTER = 3, 1
#: Of a process with a pool of chains the first turn of each batch is no turn like the others; more
#: turns than this are not waited for.
_MOST_TURNS = 64
#: Images of a worker's batch, and of a way of sampling, where the CPU stands in for a GPU.
FEW_IMAGES = 2
#: Parameters of processes that say on how many chains or images they are fitted, or how many they
#: remember, and their values then. On a GPU all of them walk in the time of a few.
CHAINS = ("calibration_chains", "pool_size", "prior_images")
FEW_CHAINS = 16
#: With the fewest evaluations: one would leave no step between them.
_EVALUATIONS = 2
#: The section of a data set's options that says how many images are drawn, and what it says here:
#: enough for both sides of a split, and for every metric to be tried. The other ones are not drawn.
_DRAWN = {
    "fingerprints": "synthetic",
    "orientation": "synthetic",
    "sphere": "sphere",
    "xy": "xy",
    "flow": "flow",
}
_FEW = {
    "synthetic": {"fingers": 8, "impressions": 2},
    "sphere": {"count": 64},
    "xy": {"count": 64},
    "flow": {"count": 64},
}


@dataclass(frozen=True)
class Group:
    """Trials of a sweep that take the same time: equal but for seeds and magnitudes.

    Attributes:
        trial: the first of them.
        count: how many there are.
        label: what the names of their models have in common.
    """

    trial: Trial
    count: int
    label: str


def few_images(options: DatasetOptions, is_built_in: bool) -> DatasetOptions:
    """The data set of a rehearsal: built-in images at their size, but few of them.

    Args:
        options: of the sweep.
        is_built_in: whether nobody has named a folder of images.
    """
    if not is_built_in or options.folder is not None:
        return options
    section = _DRAWN.get(options.name)
    if section is None:
        return options
    drawn = getattr(options, section)
    fewer = {name: min(getattr(drawn, name), most) for name, most in _FEW[section].items()}
    return options.model_copy(update={section: drawn.model_copy(update=fewer)})


def shapes(trials: Sequence[Trial]) -> dict[Shape, list[Group]]:
    """The shapes of a sweep's trials, in the order of the plan, and what differs within each.

    A shape is all that decides what a trial asks of a machine: process, network, images, batch, T,
    workers, priors and samplers. Iterations, samples and evaluations are multiplied in later.
    """
    found: dict[Shape, dict[str, list[Trial]]] = {}
    for trial in trials:
        training = trial.training
        length = (training["iterations"], training["checkpoint_every"], training["log_every"])
        ways = sorted(map(astuple, trial.scorings))
        found.setdefault(_shape(trial), {}).setdefault(repr((length, ways)), []).append(trial)
    return {
        shape: [
            Group(same[0], len(same), in_common([trial.model for trial in same]))
            for same in alike.values()
        ]
        for shape, alike in found.items()
    }


def in_common(labels: Sequence[str]) -> str:
    """The words that all labels have: a model's name, and the values that it has in all of them."""
    first, *others = (label.split(" ") for label in dict.fromkeys(labels))
    return " ".join(word for word in first if all(word in other for other in others))


def _shape(trial: Trial) -> Shape:
    starts = tuple(sorted({(way.prior, way.sampler) for way in trial.scorings}))
    return (*shape_of(trial), trial.training["micro_batch_size"], starts)


def rehearsed(trial: Trial, resources: ResourceOptions, on_cpu: bool) -> Trial:
    """One trial for a shape.

    Args:
        trial: of the sweep, with the images that are there.
        resources: of each trial of the rehearsal.
        on_cpu: whether the CPU stands in for a GPU; then batches are cut, too.
    """
    workers = resources.workers_per_trial
    training, evaluation = dict(trial.training), dict(trial.evaluation)
    wanted, killed = (FEW_ITERATIONS, FEW_KILLED_AFTER) if on_cpu else (_turns(trial), KILLED_AFTER)
    iterations = min(wanted, training["iterations"])
    batch = training["batch_size"]
    if on_cpu:
        batch = min(batch, FEW_IMAGES * workers)
    batch -= batch % workers
    samples = FEW_IMAGES if on_cpu else min(evaluation["samples"], evaluation["batch_size"])
    parameters = dict(trial.parameters)
    if on_cpu:
        counts = {name: parameters[name] for name in CHAINS if name in parameters}
        parameters |= {name: min(count, FEW_CHAINS) for name, count in counts.items()}
    return replace(
        trial,
        parameters=parameters,
        training=training
        | {
            "iterations": iterations,
            "batch_size": max(workers, batch),
            "checkpoint_every": max(1, min(killed, iterations - 1)),
            "log_every": 1,
        },
        # Kept, so that they can be weighed.
        evaluation=evaluation | {"samples": max(2, samples), "keep_samples": "all"},
        sampling=[asdict(way) for way in _fewest(trial)],
        workers=workers,
        reuse=None,
    )


def _turns(trial: Trial) -> int:
    """Iterations in which a pool of chains is filled, and a few more."""
    pool, stride = (trial.parameters.get(name) for name in ("pool_size", "chain_steps"))
    if not isinstance(pool, int) or (isinstance(stride, int) and stride >= trial.steps):
        return ITERATIONS
    turns = math.ceil(pool / trial.training_section.batch_size) + ITERATIONS
    return min(_MOST_TURNS, max(ITERATIONS, turns))


def _fewest(trial: Trial) -> list[Scoring]:
    """Each prior with each sampler, with as few network evaluations as they can do with."""
    starts = dict.fromkeys((way.prior, way.sampler) for way in trial.scorings)
    most = {
        start: min(
            way.network_evaluations for way in trial.scorings if (way.prior, way.sampler) == start
        )
        for start in starts
    }
    return [
        Scoring(prior, sampler, _least(trial, prior, sampler, most[prior, sampler]))
        for prior, sampler in starts
    ]


def _least(trial: Trial, prior: str, sampler: str, most: int) -> int:
    for number in range(min(_EVALUATIONS, most), most):
        said = {
            "steps": trial.steps,
            "priors": [prior],
            "samplers": [sampler],
            "network_evaluations": [number],
        }
        try:
            check_parameters(trial.process, trial.parameters | said)
        except (ValidationError, ValueError):
            continue
        return number
    return most
