"""The JSON Schema of search spaces, for editors; made from the models that validate them.

It says of each key what may stand there, and marks the key that is wrong, as
``kod-bench spaces validate`` names it. What depends on several layers (a profile over the file), on
several keys, or on what a process is built with is validated by that command alone. Where
it cannot know, the schema allows: a space that is valid is never marked.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from kod_bench.results import FORWARD_START
from kod_bench.sweeps.space.axes import AXIS_KINDS
from kod_bench.sweeps.space.keys import SECTIONS, section_type
from kod_bench.sweeps.space.options import StudyOptions
from kod_bench.sweeps.space.schema.described import descriptions, summary
from kod_bench.sweeps.space.schema.known import known_processes
from kod_bench.sweeps.space.schema.rules import required_rules, strictness_rule
from kod_bench.sweeps.space.schema.text import shared, to_text
from kod_bench.sweeps.space.schema.values import (
    Schema,
    any_of,
    axis_schema,
    condition_schema,
    known_names,
    never,
    section_or_axis,
    value_schemas,
)
from kod_bench.sweeps.space.search_options import SAMPLERS
from kod_bench.sweeps.space.variants import parameters_model

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Conditions of sections for all models, which may ask for a key of any process.
_ANY_WHEN = "#/$defs/when"


def search_space_schema() -> Schema:
    """The JSON Schema, draft 2020-12, of a search space's file.

    It has the processes and data sets that are known where it is made, plug-ins' included.
    """
    sections = _sections()
    profile = {key: value for key, value in sections.items() if key != "models"}
    profile["models"] = _models(nullable=True)
    known: Schema = {
        "additionalProperties": False,
        "properties": {key: {} for key in _parameters()},
    }
    whole = {
        "$schema": DIALECT,
        "title": "Search space of kod-bench",
        "description": "What a study varies: which data, which models, which values.",
        "type": "object",
        "properties": {
            **sections,
            "profiles": {
                "description": "By name: anything of the rest, laid over it.",
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "type": "object",
                    "properties": profile,
                    "additionalProperties": False,
                },
            },
        },
        "additionalProperties": False,
        "allOf": [
            *required_rules(StudyOptions, {p: parameters_model(p) for p in known_processes()}),
            strictness_rule(list(known_processes()), "#/$defs/known-parameters"),
        ],
        "$defs": {
            **_section_definitions(),
            "known-parameters": known,
            "model": _any_model(),
            **{f"process.{name}": _model_of(name) for name in known_processes()},
            **{f"when.{name}": _when(name) for name in known_processes()},
            **{f"whens.{name}": _whens(name) for name in known_processes()},
            "when": _when(*known_processes()),
        },
    }
    return shared(whole)


def schema_text() -> str:
    """The schema as the file that is shipped."""
    return to_text(search_space_schema()) + "\n"


# Sections.


def _sections() -> dict[str, Schema]:
    """The top level's keys but `profiles`, each with what may stand there."""
    values = value_schemas(StudyOptions)
    found: dict[str, Schema] = {}
    for name, field in StudyOptions.model_fields.items():
        below = section_type(field)
        if below is None:
            found[name] = values[name]
        else:
            found[name] = {"description": summary(below), "$ref": f"#/$defs/{name}"}
    found["parameters"] = {
        "description": "Parameters of processes, for every model whose process has them.",
        "type": "object",
        "properties": {
            name: axis_schema(any_of(each.values()), _ANY_WHEN)
            for name, each in _parameters().items()
        },
    }
    found["models"] = _models(nullable=False)
    return found


def _section_definitions() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for name, field in StudyOptions.model_fields.items():
        if (options := section_type(field)) is not None:
            _define(found, name, options, varies=name in SECTIONS)
    _with_sampler_options(found["search"])
    return found


def _define(found: dict[str, Schema], name: str, options: type[BaseModel], *, varies: bool) -> None:
    """Add the schema of a section, and those of the sections within it."""
    properties: dict[str, Schema] = {}
    said = descriptions(options)
    values = value_schemas(options)
    for key, field in options.model_fields.items():
        below = section_type(field)
        if below is None:
            properties[key] = axis_schema(values[key], _ANY_WHEN) if varies else values[key]
            continue
        inner = f"{name}.{key}"
        _define(found, inner, below, varies=varies)
        reference = f"#/$defs/{inner}"
        inside = section_or_axis(reference, _ANY_WHEN) if varies else {"$ref": reference}
        properties[key] = {"description": said.get(key, summary(below))} | inside
    found[name] = {"type": "object", "properties": properties, "additionalProperties": False}


def _with_sampler_options(search: Schema) -> None:
    """Which options a search's sampler takes; where another layer names it, those of any."""
    values = {name: value_schemas(options) for name, options in SAMPLERS.items()}
    every = [{key: each[key]} for each in values.values() for key in each]
    options = search["properties"]["sampler_options"]
    options["properties"] = {
        key: any_of(each[key] for each in every if key in each)
        for key in dict.fromkeys(key for each in every for key in each)
    }
    options["additionalProperties"] = False
    search["allOf"] = [
        {
            "if": {"properties": {"sampler": {"const": name}}, "required": ["sampler"]},
            "then": {
                "properties": {
                    "sampler_options": {"properties": each, "additionalProperties": False}
                }
            },
        }
        for name, each in values.items()
    ]


# Models.


def _models(*, nullable: bool) -> Schema:
    """The models of a file, or of a profile, where null drops one."""
    model: Schema = {"$ref": "#/$defs/model"}
    if nullable:
        model = {"if": {"not": {"type": "null"}}, "then": model}
    return {
        "description": "By name: its process, that process's parameters, its own sections.",
        "type": "object",
        "properties": {
            kind: never(f"a model's name is none of {', '.join(AXIS_KINDS)}") for kind in AXIS_KINDS
        },
        "additionalProperties": model,
    }


def _any_model() -> Schema:
    """A model: its process decides what else it may say."""
    process = {"description": "The diffusion process.", **known_names(list(known_processes()))}
    known = {"properties": {"process": {"enum": list(known_processes())}}, "required": ["process"]}
    sections = {name: {"$ref": f"#/$defs/{name}"} for name in SECTIONS}
    return {
        "type": "object",
        "properties": {"process": process},
        "allOf": [
            *(
                {
                    "if": {
                        "properties": {"process": {"const": name}},
                        "required": ["process"],
                    },
                    "then": {"$ref": f"#/$defs/process.{name}"},
                }
                for name in known_processes()
            ),
            # A plug-in's process, or that of another layer.
            {"if": {"not": known}, "then": {"properties": sections}},
        ],
    }


def _model_of(process: str) -> Schema:
    """A model of one process."""
    parameters = {
        key: axis_schema(value, f"#/$defs/when.{process}")
        for key, value in _values_of(process).items()
    }
    sections: dict[str, Schema] = {
        name: {
            "description": f"{summary(options)} Over the common section, key by key.",
            "allOf": [{"$ref": f"#/$defs/{name}"}, {"$ref": f"#/$defs/whens.{process}"}],
        }
        for name, options in SECTIONS.items()
    }
    if not known_processes()[process].periodic:
        sections["network"]["allOf"].append({"properties": {"variant": {"type": "null"}}})
    return {
        "description": summary(known_processes()[process]),
        "type": "object",
        "properties": {"process": True, **parameters, **sections},
        "additionalProperties": False,
    }


def _values_of(process: str) -> dict[str, Schema]:
    """What each parameter of a process may be, and how a model of it is sampled."""
    values = value_schemas(parameters_model(process))
    said = descriptions(known_processes()[process]) | {
        "priors": "Where sampling starts; each gives rows of its own.",
        "samplers": "How samples are drawn; each gives rows of its own.",
        "network_evaluations": "In how many evaluations samples are drawn; default: T.",
    }
    for name, value in values.items():
        if name in said:
            values[name] = {"description": said[name]} | value
    kind = known_processes()[process]
    for name, known in (
        ("priors", [*kind.priors, FORWARD_START]),
        ("samplers", list(kind.samplers)),
    ):
        values[name]["items"] = {"enum": known}
    return values


def _parameters() -> dict[str, dict[str, Schema]]:
    """Every parameter that a process has: what each process that has it allows."""
    found: dict[str, dict[str, Schema]] = {}
    for process in known_processes():
        for name, value in _values_of(process).items():
            found.setdefault(name, {})[process] = value
    return found


# Conditions.


def _when(*processes: str) -> Schema:
    """Conditions on the keys that a model of one of some processes can have."""
    values: dict[str, list[Schema]] = {"process": [{"enum": list(known_processes())}]}
    for process in processes:
        for key, value in _values_of(process).items():
            values.setdefault(key, []).append(value)
    for name, options in SECTIONS.items():
        for key, value in _leaves(name, options):
            values.setdefault(key, []).append(value)
    return {
        "description": "The key exists where these keys have these values, or one of a list.",
        "type": "object",
        "properties": {key: condition_schema(any_of(each)) for key, each in values.items()},
        "additionalProperties": False,
    }


def _leaves(prefix: str, options: type[BaseModel]) -> Iterable[tuple[str, Schema]]:
    """The keys of a section by dotted path, sections within it opened."""
    values = value_schemas(options)
    for key, field in options.model_fields.items():
        below = section_type(field)
        if below is None:
            yield f"{prefix}.{key}", values[key]
        else:
            yield from _leaves(f"{prefix}.{key}", below)


def _whens(process: str) -> Schema:
    """A model's own section: its conditions are on keys that a model of its process has."""
    condition: Mapping[str, Any] = {"properties": {"when": {"$ref": f"#/$defs/when.{process}"}}}
    return {"additionalProperties": {"if": {"type": "object"}, "then": condition}}
