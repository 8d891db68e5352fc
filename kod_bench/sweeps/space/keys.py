"""The keys of a search space: which there are for a process, and where their values stand."""

import functools
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kod_bench.data import DatasetOptions
from kod_bench.sweeps.space.axes import Path, is_axis
from kod_bench.sweeps.space.options import NetworkOptions, TrainingSection
from kod_bench.sweeps.space.variants import parameters_model

#: Names a model's process in conditions.
PROCESS: Path = ("process",)
#: Sections that a space has for all models, and a model for itself.
SECTIONS: dict[str, type[BaseModel]] = {
    "dataset": DatasetOptions,
    "network": NetworkOptions,
    "training": TrainingSection,
}


def leaves(section: Mapping[Any, Any], options: type[BaseModel], prefix: Path) -> dict[Path, Any]:
    """The values and axes of a section by path, sections within it opened."""
    found: dict[Path, Any] = {}
    for name, value in section.items():
        path = (*prefix, str(name))
        below = section_type(options.model_fields.get(str(name)))
        if below is not None and isinstance(value, Mapping) and not is_axis(value):
            found |= leaves(value, below, path)
        else:
            found[path] = value
    return found


def section_type(field: FieldInfo | None) -> type[BaseModel] | None:
    """The model of a key that is a section; None of any other key."""
    kind = None if field is None else field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


@functools.cache
def fields_of(process: str) -> dict[Path, FieldInfo]:
    """Every key that a model of this process may have."""
    found: dict[Path, FieldInfo] = {}

    def add(options: type[BaseModel], prefix: Path) -> None:
        for name, field in options.model_fields.items():
            below = section_type(field)
            if below is None:
                found[(*prefix, name)] = field
            else:
                add(below, (*prefix, name))

    add(parameters_model(process), ())
    for key, options in SECTIONS.items():
        add(options, (key,))
    return found


def below(values: Mapping[Path, Any], section: str) -> dict[str, Any]:
    """One section's values by name, nested again."""
    nested: dict[str, Any] = {}
    for path, value in values.items():
        if len(path) > 1 and path[0] == section:
            node = nested
            for key in path[1:-1]:
                node = node.setdefault(key, {})
            node[path[-1]] = value
    return nested
