"""JSON Schema of what a whole search space must have, in the file or in every profile."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from kod_bench.sweeps.space.keys import section_type

Schema = dict[str, Any]


def required_rules(
    study: type[BaseModel], processes: Mapping[str, type[BaseModel]]
) -> list[Schema]:
    """Rules that name the keys which are missing.

    A key that is required may be said by the file or by each of its profiles; it is asked of the
    file unless all profiles have it. A parameter that a process needs is asked of a model where
    nothing else can say it.

    Args:
        study: the model of all but the models.
        processes: by name, the model of its parameters.
    """
    rules = [
        {"if": {"not": _in_every_profile(path)}, "then": _has(path)}
        for path in [*_required(study), ("models",)]
    ]
    one = {"properties": {"models": {"minProperties": 1}}}
    rules.append({"if": {"not": _in_every_profile(("models",))}, "then": one})
    of_models: Schema = {"required": ["process"]}
    rules.append({"if": {"not": _in_some_profiles_model("process")}, "then": _each(of_models)})
    needed: dict[str, list[str]] = {}
    for process, options in processes.items():
        for (name,) in _required(options):
            needed.setdefault(name, []).append(process)
    for name, having in needed.items():
        chosen = {"properties": {"process": {"enum": having}}, "required": ["process"]}
        elsewhere = [
            _has(("parameters", name)),
            _in_some_profile(_has(("parameters", name))),
            _in_some_profiles_model(name),
        ]
        rules.append(
            {
                "if": {"not": {"anyOf": elsewhere}},
                "then": _each({"if": chosen, "then": {"required": [name]}}),
            }
        )
    return rules


def strictness_rule(processes: Sequence[str], known: str) -> Schema:
    """Refuse parameters that no process has, unless a model's process is not known here.

    Args:
        processes: that are known.
        known: reference to the schema of parameters that allows no others.
    """
    model = {"properties": {"process": {"enum": list(processes)}}}
    models = {"properties": {"models": {"additionalProperties": model}}}
    every = {"properties": {"profiles": {"additionalProperties": models}}}
    strict = {"properties": {"parameters": {"$ref": known}}}
    return {
        "if": {"allOf": [models, every]},
        "then": {
            "properties": {
                **strict["properties"],
                "profiles": {"additionalProperties": strict},
            }
        },
    }


def _required(options: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
    """The keys that have no default, by path, those within a required section included."""
    for name, field in options.model_fields.items():
        if field.is_required():
            below = section_type(field)
            yield from [(*prefix, name)] if below is None else _required(below, (*prefix, name))


def _has(path: Sequence[str]) -> Schema:
    """A mapping that says something at a path."""
    key, *rest = path
    below = {"properties": {key: _has(rest)}} if rest else {}
    return {"required": [key], **below}


def _each(model: Schema) -> Schema:
    """All models of the file."""
    return {"properties": {"models": {"additionalProperties": model}}}


def _in_every_profile(path: Sequence[str]) -> Schema:
    profiles = {"additionalProperties": _has(path)}
    return {"required": ["profiles"], "properties": {"profiles": profiles}}


def _some(schema: Schema) -> Schema:
    """A mapping at least one of whose values is so: JSON Schema has no word for it."""
    return {"not": {"additionalProperties": {"not": schema}}}


def _in_some_profile(schema: Schema) -> Schema:
    return {"required": ["profiles"], "properties": {"profiles": _some(schema)}}


def _in_some_profiles_model(key: str) -> Schema:
    model = {"type": "object", "required": [key]}
    return _in_some_profile({"required": ["models"], "properties": {"models": _some(model)}})
