"""The strategy that learns: Optuna chooses each next point of a model by the results so far.

Every grid point of every model has a study of its own, as `random` has draws of its own at each: a
result says nothing about another model. Studies live in memory and are made again from the plan
and the row files whenever a process begins; `study_file` shows them to people.

A point is one configuration. Its value is the mean over its trials, one of each seed; it is
complete when all of them are done.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from kod_bench.errors import UsageError
from kod_bench.results import Row, judged_by
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.plan.trials_file import Drawn
from kod_bench.sweeps.search.samplers import distribution, make_sampler, suggest, to_parameter
from kod_bench.sweeps.search.study_file import Record, StudyFile
from kod_bench.sweeps.space import Document, Model, ModelVariant, Point, resolve_models
from kod_bench.sweeps.space.messages import dotted
from kod_bench.sweeps.space.search_options import OBJECTIVES
from kod_bench.sweeps.space.strategies import position_of
from kod_bench.sweeps.store.growth import GrowingPlan

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import TrialState

#: So often in a row a sampler may choose what is in the plan or cannot be, before points are drawn.
_PATIENCE = 20
#: So many of a group's possible points are looked through for one that is not in the plan.
_MOST_LOOKED_AT = 100_000

Say = Callable[[str], None]


@dataclass
class _Point:
    """A point in the plan.

    Attributes:
        drawn: its values, by dotted path.
        trials: ids, one of each seed.
        number: of the trial in the study.
        rows: of each trial that is done.
        failed: reasons, of each trial that has failed in this run.
    """

    drawn: dict[str, Any]
    trials: tuple[str, ...]
    number: int
    rows: dict[str, list[Row]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass
class _Group:
    """A grid point of a model.

    Attributes:
        name: of both.
        model: of the space.
        start: the grid point.
        wanted: how many points there are to be.
        study: in memory.
        points: in the order in which they were chosen.
    """

    name: str
    model: Model
    start: Point
    wanted: int
    study: "Study"
    points: list[_Point] = field(default_factory=list)

    def distributions(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Of the keys that are drawn at a point."""
        axes = {dotted(path): axis for path, axis in self.model.sampled.items()}
        return {name: distribution(axes[name]) for name in drawn}

    def parameters(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """A point's values as Optuna has them."""
        axes = {dotted(path): axis for path, axis in self.model.sampled.items()}
        return {name: to_parameter(axes[name], value) for name, value in drawn.items()}


class OptunaSearch:
    """Chooses points, writes them into the plan, and learns from their rows.

    Args:
        sweep: whose strategy is `optuna`; this process holds its lock.
        read: a trial's rows, None if it is not done.
        say: receives remarks.

    Raises:
        UsageError: if the plan does not fit the space that it was frozen with.
    """

    def __init__(
        self, sweep: Sweep, read: Callable[[Trial], list[Row] | None], say: Say = lambda _: None
    ) -> None:
        import optuna

        if sweep.growth is None:
            raise ValueError(f"{sweep.shown}: its plan is complete")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        growth = sweep.growth
        said = {**growth.resolved, "evaluation": growth.evaluation}
        document = Document.of(growth.source, said, growth.profile, {}, {})
        options, models = resolve_models(document)
        self._sweep = sweep
        self._say = say
        self._options = options.search
        self._seeds = options.seeds
        self._directions: list[Any] = [f"{OBJECTIVES[each]}imize" for each in self._options.metrics]
        self._plan = GrowingPlan(sweep)
        self._groups = {group.name: group for group in self._make_groups(models)}
        self._belongs: dict[str, tuple[_Group, _Point]] = {}  # by trial id
        self._exhausted: set[str] = set()
        self._unseen: list[tuple[_Group, _Point]] = []  # not published yet
        self._remember(read)
        for group in self._groups.values():
            seed = self._seed(group.name, str(len(group.points)))
            complete = [trial for trial in group.study.trials if trial.values is not None]
            group.study.sampler = make_sampler(self._options, seed, complete)
        names = [self._study_name(group) for group in self._groups.values()]
        self._file = StudyFile(sweep, self._directions, names)
        self._file.put(
            *(
                self._record(group, point)
                for group in self._groups.values()
                for point in group.points
            )
        )

    def next_trials(self) -> list[Trial]:
        """Choose the next point, and put its trials into the plan; none if there is no more to do.

        Raises:
            OSError: if the plan cannot be written.
        """
        while open_groups := [
            group
            for group in self._groups.values()
            if len(group.points) < group.wanted and group.name not in self._exhausted
        ]:
            # The least advanced first: an interrupted sweep has a fair comparison.
            group = min(open_groups, key=lambda each: len(each.points) / each.wanted)
            if chosen := self._choose(group):
                return chosen
            self._exhausted.add(group.name)
        return []

    def publish(self) -> None:
        """Put what was added to the plan where all nodes, and then all people, see it.

        Raises:
            OSError: if that is an object store, and it cannot be reached.
        """
        self._plan.publish()
        self._file.put(*(self._record(*chosen) for chosen in self._unseen))
        self._unseen.clear()

    def ended(self, trial: str, rows: list[Row] | None, reason: str | None = None) -> None:
        """A trial is done, has failed, or, without rows and reason, was stopped."""
        if trial not in self._belongs:
            return  # of a model that draws nothing
        group, point = self._belongs[trial]
        if rows is not None:
            point.rows[trial] = rows
        elif reason is not None:
            point.failed[trial] = reason
        if len(point.rows) + len(point.failed) == len(point.trials):
            self._tell(group, point)
            self._file.put(self._record(group, point))

    # The studies in memory.

    def _make_groups(self, models: Sequence[Model]) -> list[_Group]:
        import optuna

        wanted, groups = self._options.trials or 1, []
        for model in models:
            for start in model.grid():
                # Where nothing is drawn the point is in the plan from the beginning.
                if not any(path in model.sampled for path in next(model.choices(start))):
                    continue
                there_are = sum(1 for _ in itertools.islice(model.choices(start), wanted))
                study = optuna.create_study(directions=self._directions)
                groups.append(_Group(model.group(start), model, start, there_are, study))
        return groups

    def _remember(self, read: Callable[[Trial], list[Row] | None]) -> None:
        """Bring what is in the plan, and the rows that there are, into the studies."""
        points: dict[tuple[str, str], list[str]] = {}
        for name, drawn in self._plan.drawn.items():
            key = (drawn.group, str(sorted(drawn.values.items())))
            points.setdefault(key, []).append(name)
        for (group_name, _), trials in points.items():
            if (group := self._groups.get(group_name)) is None:
                raise UsageError(f"{self._sweep.shown}: its plan has no {group_name!r}; damaged?")
            point = self._add(group, self._plan.drawn[trials[0]].values, trials)
            for name in trials:
                if (rows := read(self._plan.trials[name])) is not None:
                    point.rows[name] = rows
            if len(point.rows) == len(trials):
                self._tell(group, point)

    def _add(self, group: _Group, drawn: dict[str, Any], trials: Sequence[str]) -> _Point:
        """A point that the study has not chosen itself."""
        import optuna

        try:
            template = optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params=group.parameters(drawn),
                distributions=group.distributions(drawn),
            )
        except (KeyError, ValueError) as error:
            raise UsageError(
                f"{self._sweep.shown}: trial {trials[0]} is none of its search space ({error})"
            ) from error
        group.study.add_trial(template)
        number = len(group.study.get_trials(deepcopy=False)) - 1
        return self._book(group, drawn, trials, number)

    def _book(
        self, group: _Group, drawn: dict[str, Any], trials: Sequence[str], number: int
    ) -> _Point:
        point = _Point(drawn, tuple(trials), number)
        group.points.append(point)
        self._belongs |= dict.fromkeys(trials, (group, point))
        return point

    def _tell(self, group: _Group, point: _Point) -> None:
        import optuna

        values = self._values(point)
        if on_the_way := self._on_the_way(point):
            number = group.study.get_trials(deepcopy=False)[point.number]._trial_id
            running = optuna.trial.Trial(group.study, number)
            for iteration, value in on_the_way.items():
                running.report(value, iteration)
            group.study.tell(point.number, state=optuna.trial.TrialState.PRUNED)
        elif values is None:
            group.study.tell(point.number, state=optuna.trial.TrialState.FAIL)
        else:
            group.study.tell(point.number, values)

    def _on_the_way(self, point: _Point) -> dict[int, float]:
        """Of a point of which a trial was pruned: where first, and what those that were had."""
        found: dict[int, float] = {}
        for rows in point.rows.values():
            row = judged_by(rows)
            if row.pruned_at is not None:
                value = getattr(row, self._sweep.stopping_metric or "kid")
                found[row.pruned_at] = math.inf if value is None else value
        ends = len(point.rows) == len(point.trials) and found
        return {min(found): fmean(found.values())} if ends else {}

    def _values(self, point: _Point) -> list[float] | None:
        """The objectives, each the mean over seeds; None if one is not defined."""
        if len(point.rows) < len(point.trials) or self._on_the_way(point):
            return None
        found = []
        for name in self._options.metrics:
            each = [objective(rows, name) for rows in point.rows.values()]
            defined = [value for value in each if value is not None and math.isfinite(value)]
            if len(defined) < len(each):
                return None
            found.append(fmean(defined))
        return found

    # Choosing.

    def _choose(self, group: _Group) -> list[Trial]:
        """A point of a group that is not in the plan, now in it; none if there is none left."""
        import optuna

        for _ in range(_PATIENCE):
            asked = group.study.ask()

            def place(path: Any, axis: Any, asked: Any = asked) -> Any:
                return suggest(asked, dotted(path), axis)

            if (found := self._new(group, group.model.complete(group.start, place))) is not None:
                try:
                    self._put(group, *found, number=asked.number)
                except OSError:  # it is asked for anew
                    group.study.tell(asked, state=optuna.trial.TrialState.FAIL)
                    raise
                return found[1]
            group.study.tell(asked, state=optuna.trial.TrialState.FAIL)
        for point in self._any_points(group):
            if (found := self._new(group, point)) is not None:
                self._put(group, *found, number=None)
                return found[1]
        return []

    def _any_points(self, group: _Group) -> Any:
        """Points for a sampler that brings nothing new: drawn ones, then one after another."""
        for number in range(_PATIENCE * max(_PATIENCE, len(group.points))):

            def place(path: Any, axis: Any, number: int = number) -> Any:
                return axis.at(self._position(group.name, dotted(path), str(number)))

            yield group.model.complete(group.start, place)
        yield from itertools.islice(group.model.choices(group.start), _MOST_LOOKED_AT)

    def _new(self, group: _Group, point: Point) -> tuple[ModelVariant, list[Trial]] | None:
        """A point's trials, if it can be and none of them is in the plan."""
        try:
            variant = group.model.resolve(point, self._sweep.resources)
        except UsageError as error:
            self._say(f"passed over: {error}")
            return None
        trials = self._plan.make(variant, self._seeds)
        return None if any(t.id in self._plan.trials for t in trials) else (variant, trials)

    def _put(
        self, group: _Group, variant: ModelVariant, trials: list[Trial], *, number: int | None
    ) -> None:
        self._plan.add(trials, Drawn(group.name, variant.drawn))
        names = [trial.id for trial in trials]
        if number is None:
            point = self._add(group, variant.drawn, names)
        else:
            point = self._book(group, variant.drawn, names, number)
        self._unseen.append((group, point))

    def _seed(self, *parts: str) -> int:
        return int(self._position(*parts) * 2**32)

    def _position(self, *parts: str) -> float:
        return position_of(str(self._options.seed), "optuna", *parts)

    # The study for people.

    def _study_name(self, group: _Group) -> str:
        study = self._sweep.growth.study if self._sweep.growth else ""
        return study if len(self._groups) == 1 else f"{study} {group.name}"

    def _record(self, group: _Group, point: _Point) -> Record:
        state, values = self._state(point)
        notes = {"model": self._plan.trials[point.trials[0]].model}
        if point.failed:
            notes["failed"] = "; ".join(f"{name}: {why}" for name, why in point.failed.items())
        return Record(
            study=self._study_name(group),
            trials=point.trials,
            parameters=group.parameters(point.drawn),
            distributions=group.distributions(point.drawn),
            state=state,
            values=values,
            notes=notes,
            steps=self._on_the_way(point),
        )

    def _state(self, point: _Point) -> "tuple[TrialState, list[float] | None]":
        from optuna.trial import TrialState

        if len(point.rows) == len(point.trials):
            values = self._values(point)
            if self._on_the_way(point):
                return TrialState.PRUNED, None
            return (TrialState.FAIL if values is None else TrialState.COMPLETE), values
        # An end is for ever there, and `resume` tries again.
        return (TrialState.WAITING if point.failed else TrialState.RUNNING), None


def objective(rows: Sequence[Row], name: str) -> float | None:
    """A value of the row that a trial is judged by."""
    row = judged_by(rows)
    if name == "seconds_per_sample":
        return row.sampling_seconds / row.sample_count
    value: float | None = getattr(row, name)
    return value
