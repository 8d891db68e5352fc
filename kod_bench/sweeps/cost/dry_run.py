"""What a sweep would do: its trials, what they occupy, what they would cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from kod_bench.storage import Location
from kod_bench.sweeps.cluster.share import WHOLE, Share
from kod_bench.sweeps.cost.estimate import Estimate, estimate, trials_at_once
from kod_bench.sweeps.cost.saved import reuse_event, reuse_line, reuse_trials
from kod_bench.sweeps.display.trial_table import duration
from kod_bench.sweeps.plan.networks import check_networks, guessed_channels
from kod_bench.sweeps.plan.planned import plan_sweep
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.space import ModelVariant, ResourceOptions, SearchSpace
from kod_bench.sweeps.store.donors import Reuse

#: More configurations than this are shown as one line per model.
MOST_LINES = 40


@dataclass(frozen=True)
class DryRun:
    """What a sweep would do here.

    Attributes:
        space: resolved.
        cpus: that trials may use.
        gpus: of this machine.
        at_once: how many trials fit on it; perhaps none.
        cost: None if it was not asked for, or nothing fits.
        reuse: what is taken over from other sweeps; None if none was named.
    """

    space: SearchSpace
    cpus: int
    gpus: int
    at_once: int
    cost: Estimate | None
    reuse: Reuse | None = None

    @property
    def seconds(self) -> tuple[float, ...] | None:
        """Of one trial of each configuration."""
        # Trials are in the order of the plan: all configurations at one seed, then at the next.
        return None if self.cost is None else self.cost.trials[: len(self.space.variants)]

    @property
    def table(self) -> Table:
        """A line per configuration; per model, where there are too many."""
        return _plan_table(self.space, self.seconds)

    @property
    def lines(self) -> list[str]:
        """To be printed below the table."""
        options = self.space.options
        lines = [
            *_varied(self.space),
            f"{len(self.space.variants) * len(options.seeds)} trials: {len(self.space.variants)} "
            f"configurations, seeds {', '.join(map(str, options.seeds))}",
            _resources_line(options.resources, self.at_once, self.cpus, self.gpus),
        ]
        if self.reuse is not None:
            lines.append(reuse_line(self.reuse))
        if self.cost is not None:
            lines.append(_cost_line(self.cost))
            if options.search.pruner is not None:
                lines.append("an upper bound: early stopping ends most trials before that")
        return lines

    def event(self) -> dict[str, Any]:
        """The same for programs: docs/search-spaces.md lists the keys."""
        options, cost = self.space.options, self.cost
        count = len(self.space.variants)
        seconds = self.seconds or (None,) * count
        return {
            "configurations": [
                {
                    "name": variant.label,
                    "model": variant.model,
                    "varied": dict(variant.point),
                    "steps": variant.steps,
                    "network_evaluations": list(variant.network_evaluations),
                    "iterations": variant.training.iterations,
                    "batch_size": variant.training.batch_size,
                    "seconds": each,
                }
                for variant, each in zip(self.space.variants, seconds, strict=True)
            ],
            "seeds": list(options.seeds),
            "trials": count * len(options.seeds),
            "resources": options.resources.model_dump(mode="json"),
            **({} if self.reuse is None else {"reuse": reuse_event(self.reuse)}),
            "machine": {"cpus": self.cpus, "gpus": self.gpus, "trials_at_once": self.at_once},
            "estimate": None
            if cost is None
            else {
                "wall_seconds": cost.wall,
                "cpu_hours": cost.cpu_hours,
                "accelerator_hours": cost.gpu_hours,
                "upper_bound": options.search.pruner is not None,
            },
        }


def dry_run(
    space: SearchSpace,
    *,
    data_dir: Location | None,
    timing: bool,
    say: Callable[[str], None],
    reused: Sequence[Sweep] = (),
    share: Share = WHOLE,
) -> DryRun:
    """Validate a sweep and work out what it would cost. No results folder is touched.

    Args:
        space: resolved.
        data_dir: as in a sweep; images are prepared, as a sweep would, only to be timed on.
        timing: whether to estimate the cost. Without, ten thousand trials take seconds.
        say: receives lines about what is being done.
        reused: sweeps whose finished trials would be taken over.
        share: of this machine.

    Raises:
        UsageError: with one line, if the sweep could not start.
        kod_bench.data.DataError: likewise, for the images.
    """
    resources = space.options.resources
    here = share.resources()
    cpus, gpus = int(here["CPU"]), int(here["GPU"])
    at_once = trials_at_once(resources, cpus, gpus)
    cost, taken = None, None
    if reused or (timing and at_once):  # what can be taken over hangs on the images
        planned = plan_sweep(space, data_dir=data_dir, say=say)
        space = planned.space
        taken = reuse_trials(planned, reused, say)
    if taken is not None and timing and at_once:
        cost = estimate(
            taken.trials,
            resources,
            data_dir=data_dir,
            cpus=cpus,
            gpus=gpus,
            say=say,
            pruner=space.options.search.pruner,
        )
    else:
        if taken is None:
            check_networks(space, guessed_channels(space))
        if timing:
            say("no estimate: it comes from running a few steps, which needs such a machine")
    return DryRun(space, cpus, gpus, at_once, cost, taken if reused else None)


def _plan_table(space: SearchSpace, seconds: Sequence[float] | None) -> Table:
    seeds = len(space.options.seeds)
    of_variant = dict(zip(map(id, space.variants), seconds, strict=True)) if seconds else {}
    lines = [[variant] for variant in space.variants]
    if len(lines) <= MOST_LINES:
        names = [variant.label for variant in space.variants]
    else:
        by_model: dict[str, list[ModelVariant]] = {}
        for variant in space.variants:
            by_model.setdefault(variant.model, []).append(variant)
        lines, names = list(by_model.values()), list(by_model)
    table = Table(box=None, pad_edge=False)
    table.add_column("Model", overflow="fold")
    for name in (
        "T",
        "NFE",
        "Trials",
        "Iterations",
        "Batch",
        *(("Each", "All") if seconds else ()),
    ):
        table.add_column(name, justify="right", no_wrap=True)  # names give way
    for name, line in zip(names, lines, strict=True):
        cells = [
            _span([variant.steps for variant in line]),
            _listed([n for variant in line for n in variant.network_evaluations]),
            str(len(line) * seeds),
            _span([variant.training.iterations for variant in line]),
            _span([variant.training.batch_size for variant in line]),
        ]
        if seconds:
            each = [of_variant[id(variant)] for variant in line]
            cells += [_durations(each), duration(sum(each) * seeds)]
        table.add_row(Text(name), *cells)
    return table


def _varied(space: SearchSpace) -> list[str]:
    """What varies in each model, a line each; for tables that do not show it."""
    if len(space.variants) <= MOST_LINES:
        return []
    found: dict[str, dict[str, list[object]]] = {}
    for variant in space.variants:
        model = found.setdefault(variant.model, {})
        for path, value in variant.point.items():
            model.setdefault(path, []).append(value)
    return [
        f"{name}: " + "; ".join(f"{path} {_values(v)}" for path, v in axes.items())
        for name, axes in found.items()
        if axes
    ]


def _resources_line(resources: ResourceOptions, at_once: int, cpus: int, gpus: int) -> str:
    """What a trial occupies, and how many fit here."""
    r = resources
    gpu = f" and {r.gpus_per_worker:g} GPU" if r.gpus_per_worker else ""
    each = f"{r.workers_per_trial} worker{'s' * (r.workers_per_trial > 1)}"
    here = f"this machine has {cpus} CPU and {gpus} GPU"
    fits = f"{at_once} at once" if at_once else "not one fits: see --profile"
    return f"each trial: {each} of {r.cpus_per_worker} CPU{gpu}; {here}: {fits}"


def _cost_line(cost: Estimate) -> str:
    """The estimate in one line."""
    gpus = f"{cost.gpu_hours:.2f} accelerator-hours, " if cost.gpu_hours else "no accelerator, "
    some = "" if cost.timed == cost.shapes else " (the others are taken for their neighbours)"
    return (
        f"estimate: {duration(cost.wall)} from start to end; {gpus}{cost.cpu_hours:.2f} CPU-hours; "
        f"{cost.timed} of {cost.shapes} shapes timed in {duration(cost.timing)}{some}"
    )


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}-{high}"


def _listed(values: Sequence[int]) -> str:
    distinct = sorted(set(values), reverse=True)
    return ",".join(map(str, distinct)) if len(distinct) <= 4 else _span(values)


def _durations(seconds: Sequence[float]) -> str:
    low, high = duration(min(seconds)), duration(max(seconds))
    return low if low == high else f"{low}-{high}"


def _values(values: Sequence[object]) -> str:
    distinct = list(dict.fromkeys(str(value) for value in values))
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(distinct) > 4 and len(numbers) == len(values):
        return f"{min(numbers)} to {max(numbers)} ({len(distinct)} values)"
    return ", ".join(distinct[:8]) + (", ..." if len(distinct) > 8 else "")
