"""A model of a search space: its keys, which of them vary, and the points that they span."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from kod_bench.data import DatasetOptions
from kod_bench.diffusion import PROCESSES, find_process, process_names
from kod_bench.errors import UsageError
from kod_bench.plugins import PluginError
from kod_bench.sweeps.space.axes import Axis, Path, is_axis, parse_axis
from kod_bench.sweeps.space.conditions import check_condition
from kod_bench.sweeps.space.document import Document
from kod_bench.sweeps.space.keys import PROCESS, SECTIONS, below, fields_of, leaves
from kod_bench.sweeps.space.messages import dotted, first_error
from kod_bench.sweeps.space.options import UNET_SIZES, NetworkOptions, ResourceOptions, check_shares
from kod_bench.sweeps.space.readings import with_reading
from kod_bench.sweeps.space.variants import (
    ModelVariant,
    check_parameters,
    parameters_model,
    validated,
)

#: A value for each key that varies and exists there.
Point = dict[Path, Any]
#: Chooses a value for a key that is drawn.
Place = Callable[[Path, Axis], Any]

_STEPS: Path = ("steps",)
_ARCHITECTURE: Path = ("network", "architecture")
_VARIANT: Path = ("network", "variant")


class Model:
    """One model: what the space says for all, with its own section over it.

    Args:
        name: in the search space.
        document: the space.

    Attributes:
        name: as given.
        process: its name, a key of `PROCESSES` or a plug-in's.
        axes: what varies, or exists under a condition, in the order of labels.

    Raises:
        UsageError: if the section has an unknown key, or an axis that is none.
    """

    def __init__(self, name: str, document: Document) -> None:
        self.name = name
        self._document = document
        section = document.merged["models"][name]
        here = document.where(("models", name))
        if not isinstance(section, dict):
            raise UsageError(f"{here}: must be a mapping with the key 'process'")
        process: Any = section.get("process")
        its_process = document.where(("models", name, "process"))
        if not isinstance(process, str) or process not in process_names():
            raise UsageError(
                f"{its_process}: {process!r} is not a process; known: {', '.join(process_names())}"
            )
        self.process: str = process
        try:
            self._periodic = find_process(process).periodic
        except PluginError as error:
            raise UsageError(f"{its_process}: {error}") from error
        for key in SECTIONS:
            if not isinstance(section.get(key, {}), dict):
                raise UsageError(f"{here}.{key}: must be a mapping")
        self._fields = fields_of(self.process)
        own = self._own(section)
        self._own_paths = set(own)
        values = self._shared(own) | own
        # In labels, and from slow to fast in a grid: the process, then the sections.
        ordered = sorted(values.items(), key=lambda item: len(item[0]) > 1)
        self.axes: dict[Path, Axis] = {}
        self._constants: dict[Path, Any] = {}
        for path, value in ordered:
            if isinstance(value, Mapping) and (is_axis(value) or path in self._fields):
                self.axes[path] = parse_axis(self.where(path), value)
            else:
                self._constants[path] = value
        for path, axis in self.axes.items():
            for condition in axis.when:
                check_condition(
                    f"{self.where(path)}.when",
                    condition,
                    self._fields,
                    self.axes.get(condition.path),
                    shared=path not in self._own_paths,
                    processes=_named_in(document),
                )
        self._order = self._dependencies_first()
        self._drawn = self._after_drawing()

    def where(self, path: tuple[str | int, ...]) -> str:
        """How messages name a key of this model: the file, the layer, the path."""
        shared = path if path and path[0] in SECTIONS else ("parameters", *path)
        return self._document.where(("models", self.name, *path), shared)

    @property
    def sampled(self) -> dict[Path, Axis]:
        """The axes that are drawn from."""
        return {path: axis for path, axis in self.axes.items() if axis.is_sampled}

    def grid(self) -> Iterator[Point]:
        """Every point of the grids, without what is drawn."""
        return self._grid({}, [path for path in self._order if path not in self._drawn])

    def grid_size(self, most: int) -> int:
        """How many points `grid` has, without making them.

        Args:
            most: beyond it, the counting may end with any number above.
        """
        return self._size({}, [path for path in self._order if path not in self._drawn], most)

    def complete(self, point: Point, place: Place) -> Point:
        """A grid point with a value for everything that is drawn, and exists there.

        Args:
            point: from `grid`.
            place: chooses; called for one key after another, conditions before what they decide.
        """
        full = dict(point)
        for path in self._order:
            axis = self.axes[path]
            if path in self._drawn and self._exists(axis, full):
                full[path] = place(path, axis) if axis.is_sampled else axis.values[0]
        return full

    def choices(self, point: Point) -> Iterator[Point]:
        """Every point that `complete` can make of a grid point; lazily, there may be very many."""
        return self._choices(dict(point), [path for path in self._order if path in self._drawn])

    def group(self, point: Point) -> str:
        """Names a grid point of this model; of a complete point, the one that it is at."""
        at = {p: point[p] for p in self._varied if p in point and p not in self._drawn}
        return " ".join([self.name, *(f"{dotted(path)}={value}" for path, value in at.items())])

    def resolve(self, point: Point, resources: ResourceOptions) -> ModelVariant:
        """Everything about one point, validated.

        Args:
            point: complete.
            resources: of a trial, which must suit the point.

        Raises:
            UsageError: with the file, the key's path and what is allowed.
        """
        values = self._constants | point
        network = self._options("network", self._network(values))
        training = self._options("training", below(values, "training"))
        dataset = self._options("dataset", below(values, "dataset"))
        said = {path[0]: value for path, value in values.items() if len(path) == 1}
        parameters = with_reading(self.process, said, dataset, self.where)
        whole = self._document.touched(("models", self.name), ("parameters",))
        try:
            checked = check_parameters(self.process, parameters)
            check_shares(training, resources)
        except ValidationError as error:
            location, message = self._unknown_or_wrong(error)
            raise UsageError(f"{self.where(location)}: {message}") from error
        except ValueError as error:
            raise UsageError(f"{whole}: {error}") from error
        varied = {path: point[path] for path in self._varied if path in point}
        return ModelVariant(
            model=self.name,
            label=" ".join([self.name, *_labels(varied)]),
            group=self.group(point),
            drawn={dotted(p): v for p, v in varied.items() if self.axes[p].is_sampled},
            point={dotted(path): value for path, value in varied.items()},
            process=self.process,
            steps=checked.steps,
            parameters=checked.values,
            priors=checked.priors,
            samplers=checked.samplers,
            network_evaluations=checked.network_evaluations,
            dataset=dataset,
            network=network.resolved(periodic=self._periodic),
            training=training,
        )

    def check_draws(self, resources: ResourceOptions) -> None:
        """Refuse a range or a choice that holds a value which is not allowed, drawn or not.

        Raises:
            UsageError: as from `resolve`.
        """
        grid = list(self.grid())
        for path, axis in self.sampled.items():
            for value in axis.extremes:
                forced = self._conditions_of(path) | {path: value}
                points = (self.complete(start, _forcing(forced)) for start in grid)
                if (where := next((point for point in points if path in point), None)) is not None:
                    self.resolve(where, resources)

    # What the space says of this model.

    def _own(self, section: Mapping[str, Any]) -> dict[Path, Any]:
        own: dict[Path, Any] = {
            (str(key),): value
            for key, value in section.items()
            if key not in SECTIONS and key != "process"
        }
        for key, options in SECTIONS.items():
            own |= leaves(section.get(key, {}), options, (key,))
        variant = own.get(_VARIANT)
        if variant is not None and not self._periodic:
            raise UsageError(
                f"{self.where(_VARIANT)}: is for processes on phases; {self.process} is none, "
                "leave the key out"
            )
        # The only sections with defaults of their own: null means the common value.
        return {k: v for k, v in own.items() if k[0] != "network" or v is not None}

    def _shared(self, own: Mapping[Path, Any]) -> dict[Path, Any]:
        merged = self._document.merged
        shared: dict[Path, Any] = {
            (key,): value
            for key, value in merged.get("parameters", {}).items()
            if (key,) in self._fields
        }
        for key, options in SECTIONS.items():
            shared |= leaves(merged.get(key, {}), options, (key,))
        if not self._periodic:
            shared.pop(_VARIANT, None)
        common = shared.get(_ARCHITECTURE, "unet")
        if not is_axis(chosen := own.get(_ARCHITECTURE, common)) and chosen != common:
            shared = {path: value for path, value in shared.items() if not _is_size(path)}
        return shared

    def _network(self, values: Mapping[Path, Any]) -> dict[str, Any]:
        """The network's keys; those of the common architecture stay with it."""
        network = below(values, "network")
        common = self._document.merged.get("network", {}).get("architecture", "unet")
        if _ARCHITECTURE in self._own_paths and values.get(_ARCHITECTURE, common) != common:
            return {
                key: value
                for key, value in network.items()
                if key not in UNET_SIZES or ("network", key) in self._own_paths
            }
        return network

    def _options(self, section: str, values: Mapping[str, Any]) -> Any:
        options = SECTIONS[section]
        try:
            return validated(options, values)
        except ValidationError as error:
            location, message = first_error(error, options)
            raise UsageError(f"{self.where((section, *location))}: {message}") from error
        except PluginError as error:
            raise UsageError(f"{self.where((section, 'name'))}: {error}") from error

    def _unknown_or_wrong(self, error: ValidationError) -> tuple[tuple[str | int, ...], str]:
        sections = [f"{name}.{key}" for name, each in SECTIONS.items() for key in each.model_fields]
        also = ["process", *SECTIONS, *sections]
        return first_error(error, parameters_model(self.process), also)

    # What varies.

    @functools.cached_property
    def _deciding(self) -> set[Path]:
        return {condition.path for axis in self.axes.values() for condition in axis.when}

    @functools.cached_property
    def _varied(self) -> tuple[Path, ...]:
        return tuple(path for path, axis in self.axes.items() if axis.kind != "value")

    def _grid(self, point: Point, paths: list[Path]) -> Iterator[Point]:
        if not paths:
            yield point
            return
        path, *rest = paths
        axis = self.axes[path]
        if not self._exists(axis, point):
            yield from self._grid(point, rest)
            return
        for value in axis.values:
            yield from self._grid(point | {path: value}, rest)

    def _size(self, point: Point, paths: list[Path], most: int) -> int:
        """Axes multiply; only those that conditions look at are gone through value by value."""
        factor = 1
        for place, path in enumerate(paths):
            axis = self.axes[path]
            if not self._exists(axis, point):
                continue
            if path not in self._deciding:
                factor *= len(axis.values)
                continue
            total = 0
            for value in axis.values:
                total += self._size(point | {path: value}, paths[place + 1 :], most)
                if factor * total > most:
                    break
            return factor * total
        return factor

    def _choices(self, point: Point, paths: list[Path]) -> Iterator[Point]:
        if not paths:
            yield point
            return
        path, *rest = paths
        axis = self.axes[path]
        if not self._exists(axis, point):
            yield from self._choices(point, rest)
            return
        for value in axis.all_values:
            yield from self._choices(point | {path: value}, rest)

    def _exists(self, axis: Axis, point: Point) -> bool:
        return all(self._value(c.path, point) in c.values for c in axis.when)

    def _value(self, path: Path, point: Point) -> Any:
        """The value that a key has at a point, by its default where nothing is said."""
        if path == PROCESS:
            return self.process
        if path in point:
            return point[path]
        if path not in self.axes and path in self._constants:
            return self._constants[path]
        if path not in self._fields:
            return None
        if path[0] == "network":
            return getattr(NetworkOptions().resolved(periodic=self._periodic), path[1])
        if path[0] == "dataset":
            name = self._value(("dataset", "name"), point)
            return _at(DatasetOptions(name=name, image_size=32), path[1:])
        return self._fields[path].default

    def _conditions_of(self, path: Path) -> Point:
        """Values under which a key exists, if they are drawn."""
        needed: Point = {}
        for condition in self.axes[path].when:
            if condition.path in self.axes:
                needed |= self._conditions_of(condition.path)
                needed[condition.path] = condition.values[0]
        return needed

    def _dependencies_first(self) -> tuple[Path, ...]:
        """All axes, each after those that its conditions look at."""
        order: list[Path] = []
        waiting = list(self.axes)
        while waiting:
            ready = next(
                (p for p in waiting if not any(c.path in waiting for c in self.axes[p].when)), None
            )
            if ready is None:
                raise UsageError(f"{self.where(waiting[0])}.when: conditions go round in a circle")
            order.append(ready)
            waiting.remove(ready)
        return tuple(order)

    def _after_drawing(self) -> set[Path]:
        """Axes that are drawn, or exist under a condition on what is drawn."""
        drawn: set[Path] = set()
        for path in self._order:
            axis = self.axes[path]
            depends = [c.path for c in axis.when if c.path in drawn]
            if depends and axis.kind == "grid":
                raise UsageError(
                    f"{self.where(path)}: a grid cannot depend on {dotted(depends[0])}, which is "
                    "drawn; use choice in place of grid"
                )
            if depends or axis.is_sampled:
                drawn.add(path)
        return drawn


def _named_in(document: Document) -> Iterator[str]:
    """Processes that are built in, or a model's: no other plug-in is imported for a condition."""
    yield from PROCESSES
    for section in document.merged["models"].values():
        if isinstance(section, Mapping) and section.get("process") in process_names():
            yield section["process"]


def _forcing(forced: Mapping[Path, Any]) -> Place:
    return lambda path, axis: forced.get(path, axis.at(0.0))


def _at(section: Any, path: Path) -> Any:
    for key in path:
        section = getattr(section, key)
    return section


def _is_size(path: Path) -> bool:
    return path[0] == "network" and path[-1] in UNET_SIZES


def _labels(varied: Mapping[Path, Any]) -> list[str]:
    # Reports have the number of steps in a column of its own.
    return [f"{dotted(path)}={value}" for path, value in varied.items() if path != _STEPS]
