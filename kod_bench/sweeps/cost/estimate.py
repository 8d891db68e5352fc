"""What a sweep would cost, from timing each distinct shape of trial on the hardware here."""

import contextlib
import heapq
import math
import multiprocessing
import os
import time
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

import torch

from kod_bench.errors import UsageError, one_line
from kod_bench.freed_memory import keep_freed_memory
from kod_bench.results import FORWARD_START, judged_by
from kod_bench.sampling import shards_of
from kod_bench.storage import Location
from kod_bench.sweeps.cluster.capacity import workers_on
from kod_bench.sweeps.cost.timing import ModelTiming, ScoringTiming, time_model, time_scoring
from kod_bench.sweeps.plan.trial import Scoring, Trial
from kod_bench.sweeps.space import Pruner, ResourceOptions, parameters_model
from kod_bench.sweeps.trial.drawing import shard_size

#: `ray.init`, and the first actor in place, on two cores.
RAY_SECONDS = 8.0
#: Ray Train's workers of one trial, started and stopped, on two cores.
WORKERS_SECONDS = 11.0
#: More shapes than this are represented by some of them.
MOST_SHAPES = 12
#: More processes than this are not needed to see how trials slow each other down.
_MOST_PROCESSES = 8

#: What decides how long a step takes. Trials of one shape are timed once.
Shape = tuple[Any, ...]


@dataclass(frozen=True)
class Estimate:
    """The cost of a sweep.

    Attributes:
        trials: seconds of each, in the order of the plan, were it to begin with nothing.
        wall: seconds from start to end, `at_once` trials side by side.
        at_once: how many fit on this machine.
        cpu_hours: of CPUs occupied.
        gpu_hours: of accelerators occupied.
        shapes: how many distinct ones there are.
        timed: how many of them were timed; the others are taken for their neighbours.
        timing: seconds that it took.
    """

    trials: tuple[float, ...]
    wall: float
    at_once: int
    cpu_hours: float
    gpu_hours: float
    shapes: int
    timed: int
    timing: float


def trials_at_once(resources: ResourceOptions, cpus: float, gpus: float) -> int:
    """How many trials fit beside each other; 0 if not even one does."""
    return workers_on({"CPU": cpus, "GPU": gpus}, resources) // resources.workers_per_trial


def estimate(
    trials: Sequence[Trial],
    resources: ResourceOptions,
    *,
    data_dir: Location | None,
    cpus: int,
    gpus: int,
    say: Callable[[str], None],
    pruner: Pruner | None = None,
) -> Estimate:
    """Time a few real steps of each distinct shape, and add up.

    As many processes as trials would run at once do it side by side: what they take from each other
    is part of the time.

    Args:
        trials: the plan's.
        resources: of a trial.
        data_dir: as in a sweep.
        cpus: that trials may use here.
        gpus: likewise.
        say: receives lines about what is being done.
        pruner: the sweep's rule of early stopping: what its rungs cost counts, not what it saves.

    Raises:
        UsageError: if not one trial fits on this machine, or a step cannot be run.
    """
    at_once = trials_at_once(resources, cpus, gpus)
    if not at_once:
        raise UsageError("a trial of this sweep does not fit on this machine; use --no-timing")
    began = time.perf_counter()
    shapes = {shape_of(trial): trial for trial in reversed(trials)}
    datasets = {_dataset(trial): trial for trial in reversed(trials)}
    chosen = representatives(list(shapes), MOST_SHAPES)
    timed_shapes = tuple(dict.fromkeys(chosen.values()))
    say(f"timing {len(timed_shapes)} of {len(shapes)} shapes of trial, {at_once} trials at once")
    processes = min(at_once, _MOST_PROCESSES)
    tasks: list[tuple[Callable[..., Any], Trial]]
    tasks = [(time_model, shapes[shape]) for shape in timed_shapes]
    tasks += [(time_scoring, trial) for trial in datasets.values()]
    # Idle processes would flatter the others: the tasks are repeated until all have one.
    repeated = tasks * math.ceil(processes / len(tasks))
    context = multiprocessing.get_context("spawn")  # CUDA and threads do not survive a fork
    with (
        _no_modules_from_here(),
        ProcessPoolExecutor(
            processes,
            context,
            initializer=_compute_as_a_trial,
            initargs=(resources.cpus_per_worker,),
        ) as pool,
    ):
        ready = [pool.submit(time.time) for _ in range(processes)]
        for each in ready:
            each.result()
        starting = time.perf_counter() - began
        futures = [pool.submit(run, trial, data_dir, resources) for run, trial in repeated]
        try:
            results = [
                _result(future, trial)
                for future, (_, trial) in zip(futures[: len(tasks)], tasks, strict=True)
            ]
        finally:
            for future in futures:
                future.cancel()
    timed: dict[Shape, ModelTiming] = dict(zip(timed_shapes, results, strict=False))
    scoring: dict[str, ScoringTiming] = dict(zip(datasets, results[len(timed) :], strict=True))
    seconds = tuple(
        trial_seconds(trial, timed[chosen[shape_of(trial)]], scoring[_dataset(trial)], pruner)
        for trial in trials
    )
    left = [
        each - seconds_saved(trial, each, timed[chosen[shape_of(trial)]])
        for trial, each in zip(trials, seconds, strict=True)
    ]
    once = starting + RAY_SECONDS + sum(each.reference for each in scoring.values())
    hours = sum(left) * resources.workers_per_trial / 3600
    return Estimate(
        trials=seconds,
        wall=once + schedule(left, at_once),
        at_once=at_once,
        cpu_hours=hours * resources.cpus_per_worker,
        gpu_hours=hours * resources.gpus_per_worker,
        shapes=len(shapes),
        timed=len(timed),
        timing=time.perf_counter() - began,
    )


def _compute_as_a_trial(threads: int) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()


@contextlib.contextmanager
def _no_modules_from_here() -> Iterator[None]:
    """Python starts without the working folder on its path, where any module's name may be taken.

    Processes that are spawned begin with it, and import before they are told this one's path.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def _result(future: Future[Any], trial: Trial) -> Any:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise UsageError(
            f"timing {trial.model}: its process was ended from outside, perhaps for memory"
        ) from error
    except Exception as error:
        raise UsageError(f"timing {trial.model}: {one_line(error)}") from error


def trial_seconds(
    trial: Trial, model: ModelTiming, scoring: ScoringTiming, pruner: Pruner | None = None
) -> float:
    """How long one trial takes, by the times of its parts, if nothing stops it early."""
    training, samples = trial.training_section, trial.evaluation_options.samples
    total = model.start + training.iterations * model.iteration
    total += math.ceil(training.iterations / training.checkpoint_every) * model.checkpoint
    total += scoring.start + model.likelihood
    if trial.workers > 1:
        total += WORKERS_SECONDS
    total += sum(
        _scoring_seconds(trial, way, samples, model, scoring, trial.workers)
        for way in trial.scorings
    )
    if pruner is not None:
        few, way = min(samples, pruner.samples), judged_by(trial.scorings)
        rung = scoring.start + _scoring_seconds(trial, way, few, model, scoring, drawers=1)
        total += len(pruner.rungs(training.iterations)) * rung
    return total


def seconds_saved(trial: Trial, seconds: float, model: ModelTiming) -> float:
    """How much of a trial's time is saved by what it begins with."""
    reused = trial.reused
    if reused is None:
        return 0.0
    if reused.kind == "row":
        return seconds
    checkpoints = math.ceil(reused.iterations / trial.training_section.checkpoint_every)
    saved = reused.iterations * model.iteration + checkpoints * model.checkpoint
    if reused.is_trained and trial.workers > 1:
        saved += WORKERS_SECONDS
    return min(seconds, saved)


def _scoring_seconds(
    trial: Trial,
    way: Scoring,
    samples: int,
    model: ModelTiming,
    scoring: ScoringTiming,
    drawers: int,
) -> float:
    """How long it takes to sample a model in one way, and for one of the workers to score that."""
    # A shape stands for others that may be sampled in other ways.
    drawing = model.drawing.get(way.sampler, max(model.drawing.values())) * way.network_evaluations
    if way.prior == FORWARD_START:
        drawing += model.forward_step * trial.steps
    # Shards are drawn whole, the last one, too; the slowest drawer has the most of them.
    size = shard_size(trial, samples)
    most = math.ceil(len(shards_of(samples, size)) / drawers) * size
    return most * drawing + samples * scoring.image + scoring.row


def schedule(seconds: Sequence[float], at_once: int) -> float:
    """When the last trial ends, if each starts in its turn as soon as there is room."""
    ends: list[float] = []
    for each in seconds:
        start = heapq.heappop(ends) if len(ends) >= at_once else 0.0
        heapq.heappush(ends, start + each)
    return max(ends, default=0.0)


def shape_of(trial: Trial) -> Shape:
    """What decides how long a trial's steps take.

    Strengths, phases, rates and other real numbers are magnitudes, which do not; whole numbers,
    names and switches do. How many steps there are is multiplied in afterwards.
    """
    fields = parameters_model(trial.process).model_fields
    parameters = tuple(
        (name, value if value is None else str(value))
        for name, value in sorted(trial.parameters.items())
        if not _is_magnitude(fields[name].annotation)
    )
    ways = tuple(sorted({(way.sampler, way.prior == FORWARD_START) for way in trial.scorings}))
    training = trial.training
    network = tuple(
        (name, str(value)) for name, value in sorted(trial.network.items()) if name != "dropout"
    )
    return (
        trial.process,
        _dataset(trial),
        trial.workers,
        network,
        (training["batch_size"], training["fast"]),
        trial.steps,
        parameters,
        ways,
    )


def representatives(shapes: Sequence[Shape], most: int) -> dict[Shape, Shape]:
    """Which shape each one is timed by: itself if there are few, else one like it.

    Of each process at least one is timed, and of its shapes, sorted, evenly many.
    """
    groups: dict[str, list[Shape]] = {}
    for shape in shapes:
        groups.setdefault(shape[0], []).append(shape)
    share = max(1, most // len(groups))
    if len(shapes) <= most:
        share = most
    found: dict[Shape, Shape] = {}
    for group in groups.values():
        ordered = sorted(group, key=_sort_key)
        count = min(share, len(ordered))
        for place, shape in enumerate(ordered):
            part = place * count // len(ordered)
            found[shape] = ordered[(2 * part + 1) * len(ordered) // (2 * count)]
    return found


def _sort_key(shape: Shape) -> str:
    """Text in which numbers sort as numbers."""
    return "".join(
        part.rjust(12, "0") if part.isdigit() else part for part in _split_digits(repr(shape))
    )


def _split_digits(text: str) -> list[str]:
    parts: list[str] = []
    for character in text:
        if parts and parts[-1][-1].isdigit() == character.isdigit():
            parts[-1] += character
        else:
            parts.append(character)
    return parts


def _dataset(trial: Trial) -> str:
    return repr(sorted(trial.dataset.items()))


def _is_magnitude(annotation: Any) -> bool:
    """Whether a parameter is a real number, or several."""
    if get_origin(annotation) in (Union, types.UnionType, tuple):
        return any(_is_magnitude(each) for each in get_args(annotation))
    return annotation is float
