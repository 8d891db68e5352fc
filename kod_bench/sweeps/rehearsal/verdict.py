"""What a rehearsal says of the sweep: what would have failed, what it takes, what it writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from kod_bench.results import FORWARD_START
from kod_bench.sampling import shards_of
from kod_bench.sweeps.cost.estimate import schedule, trial_seconds
from kod_bench.sweeps.display.trial_table import duration
from kod_bench.sweeps.plan.planned import as_size
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Scoring, Trial
from kod_bench.sweeps.rehearsal.found import Plan, Shape, read_shapes
from kod_bench.sweeps.trial.drawing import shard_size
from kod_bench.sweeps.trial.rehearsed import KILLED

#: A way of sampling is slow if it takes longer than this, in seconds, and than the training.
_SLOW_SECONDS = 3600.0


@dataclass(frozen=True)
class Verdict:
    """A rehearsal that has ended.

    Attributes:
        sweep: the rehearsal.
        plan: of which trials.
        shapes: of them.
        would_fail: what would have failed, a line each.
        to_know: what would not fail, and yet surprise.
        not_rehearsed: what could not be tried.
        seconds: of each trial of the sweep, in the order of the shapes; None: not known.
        wall: seconds from start to end.
        written: bytes that the sweep leaves, and how many more a trial needs while it runs; None:
            there is no shape that is done.
    """

    sweep: Sweep
    plan: Plan
    shapes: tuple[Shape, ...]
    would_fail: tuple[str, ...]
    to_know: tuple[str, ...]
    not_rehearsed: tuple[str, ...]
    seconds: tuple[float, ...] | None
    wall: float | None
    written: tuple[float, float] | None

    @property
    def table(self) -> Table:
        """A line for each shape."""
        return _table(self.shapes)

    @property
    def lines(self) -> list[str]:
        """To be printed below the table."""
        return [
            _resumed_line(self.shapes),
            *_written_lines(self),
            _estimate_line(self),
            *_listed("would have failed", self.would_fail or ("nothing that was tried",)),
            *_listed("to know", self.to_know),
            *_listed("not rehearsed", self.not_rehearsed),
        ]

    def event(self) -> dict[str, Any]:
        """The same for programs: docs/surviving.md lists the keys."""
        return {
            "sweep": self.sweep.shown,
            "shapes": [_shape_event(shape) for shape in self.shapes],
            "trials": sum(shape.count for shape in self.shapes),
            "would_fail": list(self.would_fail),
            "to_know": list(self.to_know),
            "not_rehearsed": list(self.not_rehearsed),
            "bytes": None if self.written is None else round(self.written[0]),
            "bytes_of_a_running_trial": None if self.written is None else round(self.written[1]),
            "estimate": None
            if self.wall is None or self.seconds is None
            else {"wall_seconds": self.wall, "trial_seconds": sum(self.seconds)},
        }


def judge_rehearsal(sweep: Sweep) -> Verdict:
    """Read what a rehearsal has left, and say what it means.

    Raises:
        UsageError: if it is none, or damaged.
        OSError: if its store cannot be reached.
    """
    plan = Plan.of(sweep)
    shapes = read_shapes(sweep, plan)
    done = [shape for shape in shapes if shape.rows]
    written = _written(done) if done else None
    seconds = None
    if len(done) == len(shapes) and not plan.on_cpu:
        seconds = tuple(
            each
            for shape in shapes
            for group in shape.groups
            for each in _each(shape, group.trial) * group.count
        )
    wall = schedule(seconds, plan.at_once) if seconds is not None and plan.at_once else None
    would_fail = [
        *plan.would_fail,
        *(f"{each.name}: {each.reason}" for each in shapes if each.reason not in (None, KILLED)),
        *(line for each in done for line in _too_large(each, plan)),
        *(line for each in done for line in _too_long(each, plan)),
        *_full(written, plan, sweep),
    ]
    to_know = [
        *(
            f"{each.name}: is not done yet; {sweep.resume_command} goes on"
            for each in shapes
            if not each.rows and each.reason in (None, KILLED)
        ),
        *(line for each in done for line in (*_resumed_otherwise(each), *_slow(each))),
    ]
    return Verdict(
        sweep,
        plan,
        tuple(shapes),
        tuple(dict.fromkeys(would_fail)),
        tuple(dict.fromkeys(to_know)),
        plan.not_rehearsed,
        seconds,
        wall,
        written,
    )


def _each(shape: Shape, trial: Trial) -> tuple[float, ...]:
    """Seconds of one trial; nothing if it is not known."""
    if shape.model is None or shape.scoring is None:
        return ()
    return (trial_seconds(trial, shape.model, shape.scoring),)


def _written(done: Sequence[Shape]) -> tuple[float, float]:
    both = [(shape.written(group.trial), group.count) for shape in done for group in shape.groups]
    left = sum(each * count for (each, _), count in both)
    return left, max(more for (_, more), _ in both)


def _too_large(shape: Shape, plan: Plan) -> list[str]:
    """Memory that was not there, or would not be with as many trials side by side as fit."""
    said = []
    taken = shape.rows[0].micro_batch_size
    share = shape.trial.training["batch_size"] // shape.trial.workers
    if taken is not None and taken < min(share, shape.trial.training["micro_batch_size"] or share):
        said.append(f"{shape.name}: memory runs out; it went on with {taken} images at once")
    for used in shape.used.values():
        here = max(1, plan.together)
        if here * used.memory > used.memory_there:
            said.append(
                f"{shape.name}: {here} on a machine take {as_size(here * used.memory)} of memory, "
                f"{used.host} has {as_size(used.memory_there)}"
            )
        gpus = plan.resources.gpus_per_worker
        sharing = max(1, round(1 / gpus)) if gpus else 1
        if used.gpu and sharing * used.gpu_memory > used.gpu_memory_there:
            said.append(
                f"{shape.name}: {sharing} on one GPU take {as_size(sharing * used.gpu_memory)}, "
                f"{used.gpu} has {as_size(used.gpu_memory_there)}"
            )
    return said


def _too_long(shape: Shape, plan: Plan) -> list[str]:
    limit = plan.resources.time_limit_minutes
    if limit is None or plan.on_cpu:
        return []
    longest = max((s for group in shape.groups for s in _each(shape, group.trial)), default=0.0)
    if longest <= 60 * limit:
        return []
    return [f"{shape.name}: takes {duration(longest)}, resources.time_limit_minutes is {limit:g}"]


def _full(written: tuple[float, float] | None, plan: Plan, sweep: Sweep) -> list[str]:
    if written is None:
        return []
    left, more = written
    there, cache = plan.free_results, plan.free_cache
    whole, here = left + max(1, plan.at_once) * more, max(1, plan.together) * more
    if sweep.remote is None and there is not None and whole > there:
        return [
            f"the disk: {as_size(whole)} are to be written, {as_size(there)} are free in "
            f"{sweep.folder.parent.parent}"
        ]
    if sweep.remote is not None and cache is not None and here > cache:
        return [
            f"a machine's disk: trials need {as_size(here)} in its cache, {as_size(cache)} are free"
        ]
    return []


def _resumed_otherwise(shape: Shape) -> list[str]:
    row = shape.rows[0]
    if row.resumed_from == 0 and row.iterations > 1:
        return [f"{shape.name}: did not go on from its checkpoint when it was killed"]
    if row.resumed_exactly is False:
        return [f"{shape.name}: a resumed training is not the same to the bit (docs/surviving.md)"]
    return []


def _slow(shape: Shape) -> list[str]:
    """The slowest way of sampling, if it takes longer than the training that it is to judge."""
    model, trial = shape.model, shape.real
    if model is None:
        return []
    training = trial.training_section.iterations * model.iteration
    # The batch may have been cut: then an iteration takes so many times longer.
    training *= trial.training["batch_size"] / trial.workers
    training /= shape.trial.training["batch_size"] / shape.trial.workers
    took, way = max(
        ((_drawing(shape, trial, way), way) for way in trial.scorings), key=lambda each: each[0]
    )
    if took <= max(training, _SLOW_SECONDS):
        return []
    return [
        f"{shape.name}: sampling {trial.evaluation['samples']:,} images from {way.prior} by "
        f"{way.sampler} in {way.network_evaluations} evaluations takes {took / training:.1f} times "
        "its training"
    ]


def _drawing(shape: Shape, trial: Trial, way: Scoring) -> float:
    """Seconds of drawing all samples of a way."""
    if shape.model is None:
        return 0.0
    each = shape.model.drawing.get(way.sampler, 0.0) * way.network_evaluations
    if way.prior == FORWARD_START:
        each += shape.model.forward_step * trial.steps
    samples = trial.evaluation_options.samples
    size = shard_size(trial, samples)
    return each * len(shards_of(samples, size)) * size / trial.workers


def _table(shapes: Sequence[Shape]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Shape", overflow="fold")
    on_gpu = any(shape.gpu_memory for shape in shapes)
    names = ("T", "Trials", "Batch", "Memory", *(("GPU",) if on_gpu else ()))
    for name in (*names, "Iteration", "Image", "Checkpoint"):
        table.add_column(name, justify="right", no_wrap=True)
    for shape in shapes:
        real, tried = shape.real.training["batch_size"], shape.trial.training["batch_size"]
        image = max((_image(shape, way) for way in shape.real.scorings), default=0.0)
        table.add_row(
            Text(shape.label),
            str(shape.real.steps),
            str(shape.count),
            str(real) if real == tried else f"{tried} of {real}",
            as_size(shape.memory) if shape.memory else "-",
            *((as_size(shape.gpu_memory),) if on_gpu else ()),
            "not done" if shape.model is None else _seconds(shape.model.iteration),
            "-" if shape.model is None else _seconds(image),
            as_size(shape.sizes.checkpoint) if shape.sizes.checkpoint else "-",
        )
    return table


def _image(shape: Shape, way: Scoring) -> float:
    """Seconds of one sample."""
    trial = shape.real
    size = shard_size(trial, trial.evaluation_options.samples)
    shards = len(shards_of(trial.evaluation_options.samples, size))
    return _drawing(shape, trial, way) * trial.workers / (shards * size)


def _resumed_line(shapes: Sequence[Shape]) -> str:
    done = [shape for shape in shapes if shape.rows]
    resumed = [shape for shape in done if shape.rows[0].resumed_from > 0]
    exact = [shape for shape in resumed if shape.rows[0].resumed_exactly]
    trials = sum(shape.count for shape in shapes)
    return (
        f"{len(shapes)} shapes of {trials} trials: {len(done)} done, {len(resumed)} killed and "
        f"resumed, {len(exact)} of them to the bit"
    )


def _written_lines(verdict: Verdict) -> list[str]:
    if verdict.written is None:
        return []
    left, more = verdict.written
    free = verdict.plan.free_results
    there = f"; {as_size(free)} are free there" if free is not None else ""
    return [
        f"the sweep leaves {as_size(left)} in its results, and needs {as_size(more)} more for each "
        f"trial that runs{there}"
    ]


def _estimate_line(verdict: Verdict) -> str:
    plan, seconds = verdict.plan, verdict.seconds
    if plan.on_cpu:
        return "no estimate: a CPU's times are not those of the GPU that it stands in for"
    if seconds is None:
        return "no estimate: not all shapes have been done"
    worked = sum(seconds) * plan.resources.workers_per_trial / 3600
    gpus = worked * plan.resources.gpus_per_worker
    said = f"{gpus:.2f} accelerator-hours" if gpus else "no accelerator"
    said += f", {worked * plan.resources.cpus_per_worker:.2f} CPU-hours"
    if verdict.wall is None:
        return f"estimate: {said}"
    return f"estimate: {duration(verdict.wall)} with {plan.at_once} trials at once; {said}"


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    return [f"{title}:", *(f"- {line}" for line in lines)] if lines else []


def _shape_event(shape: Shape) -> dict[str, Any]:
    model = shape.model
    return {
        "model": shape.label,
        "steps": shape.real.steps,
        "trials": shape.count,
        "batch_size": shape.real.training["batch_size"],
        "batch_size_rehearsed": shape.trial.training["batch_size"],
        "reason": shape.reason,
        "memory": shape.memory,
        "gpu_memory": shape.gpu_memory,
        "checkpoint_bytes": shape.sizes.checkpoint,
        "iteration_seconds": None if model is None else model.iteration,
        "evaluation_seconds": None if model is None else dict(model.drawing),
        "resumed_exactly": shape.rows[0].resumed_exactly if shape.rows else None,
    }


def _seconds(value: float) -> str:
    return duration(value) if value >= 60 else f"{value:.3g} s"
