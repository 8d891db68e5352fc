"""What a rehearsal's trials have left: times, memory and sizes, on a disk or an object store."""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import mean
from typing import Any

from kod_bench.errors import UsageError
from kod_bench.inside import list_folder, read_json
from kod_bench.results import FORWARD_START, Row, read_trial
from kod_bench.sweeps.cost.timing import ModelTiming, ScoringTiming
from kod_bench.sweeps.plan.failures import read_error
from kod_bench.sweeps.plan.files import CHECKPOINTS, CURVES, HISTORY_FILE, SAMPLES
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.rehearsal.shapes import Group, in_common
from kod_bench.sweeps.space import ResourceOptions
from kod_bench.sweeps.store.listing import list_trials
from kod_bench.sweeps.store.mirror import fetch_named, fetch_outcomes
from kod_bench.sweeps.trial.rehearsed import Used, is_use
from kod_bench.training.history import read_history
from kod_bench.visible import visible

#: Of the last iterations, so many are averaged: pools of chains walk for up to eight at once.
_WARM = 8
#: Bytes that the features of one image take while it is scored: 2,048 numbers, twice.
_FEATURES = 2 * 2048 * 8


@dataclass(frozen=True)
class Plan:
    """Of which trials a sweep is the rehearsal.

    Attributes:
        resources: that each of them would occupy.
        on_cpu: whether the CPU stands in for a GPU.
        at_once: how many of them fit where it was planned; perhaps none.
        together: how many of their workers share a machine there, at most.
        free_results: bytes that were free where results are, if it is known.
        free_cache: likewise, in the caches, where there is least.
        would_fail: what was found before any trial ran.
        not_rehearsed: what could not be tried.
        real: the trials, by the id of the one that rehearses them.
    """

    resources: ResourceOptions
    on_cpu: bool
    at_once: int
    together: int
    free_results: int | None
    free_cache: int | None
    would_fail: tuple[str, ...]
    not_rehearsed: tuple[str, ...]
    real: Mapping[str, tuple[Group, ...]]

    @classmethod
    def of(cls, sweep: Sweep) -> "Plan":
        """What a rehearsal's plan says, which may come from anywhere.

        Raises:
            UsageError: if it is none, or damaged.
        """
        said = sweep.rehearsal
        if said is None:
            raise UsageError(f"{sweep.shown}: is no rehearsal")
        try:
            real: dict[str, list[Group]] = {}
            for each in said["real"]:
                label = visible(str(each["label"]), keep="")
                group = Group(Trial(**each["trial"]), int(each["trials"]), label)
                real.setdefault(str(each["rehearsed"]), []).append(group)
            return cls(
                ResourceOptions.model_validate_json(json.dumps(said["resources"]), strict=True),
                bool(said["on_cpu"]),
                int(said["at_once"]),
                int(said["workers_together"]),
                _number(said.get("free_results")),
                _number(said.get("free_cache")),
                _texts(said["would_fail"]),
                _texts(said["not_rehearsed"]),
                {name: tuple(groups) for name, groups in real.items()},
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"{sweep.shown}: what it rehearses is damaged") from error


def _texts(said: Sequence[object]) -> tuple[str, ...]:
    return tuple(visible(str(each), keep="") for each in said)


def _number(said: object) -> int | None:
    return None if said is None else int(str(said))


@dataclass(frozen=True)
class Sizes:
    """Bytes of the files of one trial.

    Attributes:
        checkpoint: one.
        image: of a sample.
        line: of history and curves, for each line of the history.
        rest: pictures, rows, log.
    """

    checkpoint: int = 0
    image: float = 0.0
    line: float = 0.0
    rest: int = 0


@dataclass(frozen=True)
class Shape:
    """One shape of trial, as it was rehearsed.

    Attributes:
        trial: of the rehearsal.
        groups: the trials that it stands for.
        rows: of it; none: it is not done.
        reason: why not, if it has failed or was killed.
        used: by its processes, by their role.
        model: seconds of training and sampling; None: it is not done.
        scoring: likewise.
        sizes: of its files.
    """

    trial: Trial
    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    reason: str | None
    used: Mapping[str, Used]
    model: ModelTiming | None
    scoring: ScoringTiming | None
    sizes: Sizes

    @property
    def count(self) -> int:
        """How many trials it stands for."""
        return sum(each.count for each in self.groups)

    @property
    def real(self) -> Trial:
        """The first of the trials that it stands for."""
        return self.groups[0].trial

    @property
    def label(self) -> str:
        """What the names of its models have in common."""
        return in_common([each.label for each in self.groups])

    @property
    def name(self) -> str:
        """By which it is known in sentences."""
        return f"{self.label} T={self.real.steps}"

    @property
    def memory(self) -> int:
        """The most that one of its processes held at once, in bytes."""
        return max((each.memory for each in self.used.values()), default=0)

    @property
    def gpu_memory(self) -> int:
        """Likewise, of a GPU."""
        return max((each.gpu_memory for each in self.used.values()), default=0)

    def written(self, trial: Trial) -> tuple[float, float]:
        """Bytes that a trial of the sweep leaves, and how many more it needs on its way."""
        options, training = trial.evaluation_options, trial.training_section
        ways = len(trial.scorings)
        each = self._bytes_each
        kept = options.kept(options.samples, each, ways) * ways * self.sizes.image
        lines = math.ceil(training.iterations / training.log_every)
        left = self.sizes.checkpoint + self.sizes.rest + lines * self.sizes.line + kept
        drawn = options.samples * ways * self.sizes.image
        return left, self.sizes.checkpoint + drawn - kept + options.samples * _FEATURES

    @property
    def _bytes_each(self) -> int:
        """Of a sample in memory, by which it is decided how many are kept."""
        data = self.trial.dataset_options
        number = 4 if data.values == "angles" else 1
        return number * self.rows[0].channels * math.prod(data.image_shape) if self.rows else 0


def read_shapes(sweep: Sweep, plan: Plan) -> list[Shape]:
    """What there is of each shape.

    Raises:
        OSError: if the store cannot be reached.
    """
    fetch_outcomes(sweep)
    found = []
    listed = list_trials(sweep) if sweep.remote is not None else {}
    for trial in sweep.trials:
        folder = sweep.trial_folder(trial)
        if sweep.remote is None:
            files = dict(_files(folder))
        else:
            stored = listed.get(trial.id) or {}
            files = {name: each.size for name, each in stored.items()}
        uses = [name for name in files if is_use(name)]
        fetch_named(sweep, [f"{trial.id}/{name}" for name in (*uses, HISTORY_FILE)])
        rows = tuple(read_trial(folder) or ())
        used = dict(_used(folder, uses))
        history = read_history(folder / HISTORY_FILE)
        model, scoring = (None, None) if not rows else timings(trial, rows, history, used)
        found.append(
            Shape(
                trial,
                plan.real.get(trial.id, (Group(trial, 0, trial.model),)),
                rows,
                None if rows else read_error(folder),
                used,
                model,
                scoring,
                sizes(trial, files, len(history)),
            )
        )
    return found


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """Names within a trial's folder and sizes, two folders deep, as a store would list them."""
    places = [folder, folder / CHECKPOINTS, folder / CURVES, folder / SAMPLES]
    places += [folder / SAMPLES / name for name in list_folder(folder / SAMPLES)]
    for place in places:
        for name, size in list_folder(place).items():
            if size is not None:
                yield (place / name).relative_to(folder).as_posix(), size


def _used(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, Used]]:
    for name in names:
        with contextlib.suppress(OSError, TypeError, ValueError):
            said = read_json(folder / name)
            known = {each.name: each.type for each in fields(Used)}
            used = Used(**{key: value for key, value in said.items() if key in known})
            if isinstance(used.memory, int) and isinstance(used.gpu_memory, int):
                yield name, used


def sizes(trial: Trial, files: Mapping[str, int], lines: int) -> Sizes:
    """What a trial's files weigh.

    Args:
        trial: of the rehearsal.
        files: of its folder, by name.
        lines: of its history.
    """
    samples = {k: v for k, v in files.items() if k.startswith(f"{SAMPLES}/")}
    checkpoints = {k: v for k, v in files.items() if k.startswith(f"{CHECKPOINTS}/")}
    curves = {k: v for k, v in files.items() if k.startswith(f"{CURVES}/") or k == HISTORY_FILE}
    rest = files.keys() - samples.keys() - checkpoints.keys() - curves.keys()
    shards = sum(size for name, size in samples.items() if not name.endswith(".json"))
    images = trial.evaluation_options.samples * len(trial.sampling)
    return Sizes(
        max(checkpoints.values(), default=0),
        shards / images,
        sum(curves.values()) / max(1, lines),
        sum(files[name] for name in rest if not is_use(name)),
    )


def timings(
    trial: Trial,
    rows: Sequence[Row],
    history: Sequence[Mapping[str, Any]],
    used: Mapping[str, Used],
) -> tuple[ModelTiming, ScoringTiming]:
    """Seconds of the parts of a trial, by its rows and its history.

    The first iteration of each process is slower than the others, and counted once.

    Args:
        trial: of the rehearsal.
        rows: of it.
        history: of it: a line for each iteration.
        used: by its processes.
    """
    seconds = {int(each["iteration"]): float(each["seconds"]) for each in history}
    resumed, last = rows[0].resumed_from, max(seconds, default=0)
    took = {n: seconds[n] - seconds.get(n - 1, 0.0) for n in sorted(seconds)}
    warm = [took[n] for n in took if n not in (1, resumed + 1)][-_WARM:]
    iteration = mean(warm or list(took.values()) or [0.0])
    first = took.get(resumed + 1, took.get(1, iteration))
    samples = trial.evaluation_options.samples
    drawing: dict[str, float] = {}
    for row in rows:
        if row.prior != FORWARD_START:
            each = row.sampling_seconds / (samples * row.network_evaluations)
            drawing[row.sampler] = max(each, drawing.get(row.sampler, 0.0))
    forward = 0.0
    for row in rows:
        if row.prior == FORWARD_START:
            each = row.sampling_seconds / samples
            steps = drawing.get(row.sampler, 0.0) * row.network_evaluations
            forward = max(forward, (each - steps) / trial.steps)
            drawing.setdefault(row.sampler, each / row.network_evaluations)
    scoring = mean(row.evaluation_seconds for row in rows) / samples
    whole = max((each.seconds for each in used.values()), default=0.0)
    known = seconds.get(last, 0.0) - seconds.get(resumed, 0.0)
    known += sum(row.sampling_seconds / trial.workers + row.evaluation_seconds for row in rows)
    start = max(0.0, whole - known) + max(0.0, first - iteration)
    return (
        ModelTiming(start, iteration, 0.0, drawing, forward),
        ScoringTiming(0.0, scoring, 0.0, rows[0].reference_count, rows[0].real_count),
    )
