"""JSON Schema of single values and of axes: what may stand at one key of a search space.

The schemas of values are pydantic's own, of the models that validate. Only what those models check
in code is added here: names of which there is a list, and entries that may not be given twice.
"""

import copy
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema

from kod_bench.data import DatasetOptions
from kod_bench.data.options import FOLDER_PREFIX
from kod_bench.sweeps.space.axes import AXIS_KINDS
from kod_bench.sweeps.space.options import EvaluationOptions, StudyOptions
from kod_bench.sweeps.space.schema.described import descriptions
from kod_bench.sweeps.space.schema.known import known_datasets, known_extractors
from kod_bench.sweeps.space.search_options import OBJECTIVES, SearchOptions

Schema = dict[str, Any]

#: Of names with so many letters, another with one letter changed is taken for misspelt.
_LONG = 4


def value_schemas(options: type[BaseModel]) -> dict[str, Schema]:
    """What each key of a section may be, by name; sections within it are left out of account.

    Args:
        options: the model that validates the section.
    """
    try:
        whole = options.model_json_schema()
    except PydanticInvalidForJsonSchema:  # a plug-in's parameter of a type that JSON cannot say
        whole = {"properties": {name: {} for name in options.model_fields}}
    definitions = whole.get("$defs", {})
    said = descriptions(options)
    found = {}
    for name, schema in whole.get("properties", {}).items():
        plain = _nullable(_inlined(schema, definitions))
        plain = _KNOWN.get((options, name), _as_it_is)(plain)
        plain.pop("title", None)
        if "default" in plain and plain["default"] is None:
            del plain["default"]  # null says nothing to a reader; the description does
        found[name] = ({"description": said[name]} if name in said else {}) | plain
    return found


def any_of(schemas: Iterable[Schema]) -> Schema:
    """What one of several schemas allows; equal ones count once."""
    bare = [{k: v for k, v in s.items() if k not in ("description", "default")} for s in schemas]
    different = [schema for n, schema in enumerate(bare) if schema not in bare[:n]]
    return different[0] if len(different) == 1 else {"anyOf": different}


def known_names(names: Sequence[str], prefix: str | None = None) -> Schema:
    """Text that is one of some names, or else one that a plug-in may have brought.

    An editor does not know which plug-ins are installed. It must not mark their names, and must
    mark a built-in name that is misspelt: what differs from one in a letter, or in two that have
    changed places, is taken for that.

    Args:
        names: that are built in.
        prefix: of names that go on in any way.
    """
    patterns = sorted({pattern for name in names for pattern in _near(name)})
    if prefix is not None:
        patterns.append(re.escape(prefix))
    return {
        "type": "string",
        "minLength": 1,
        "examples": list(names),
        "if": {"pattern": f"^(?:{'|'.join(patterns)})$"},
        "then": {"enum": list(names)},
    }


def _near(name: str) -> Iterable[str]:
    """Patterns of what is one slip of the fingers away from a name.

    What goes on where the name ends (``edm2``), and what has another digit, is a name of its own;
    so is another short word (``vp`` beside ``ve``).
    """
    yield re.escape(name.upper())
    yield re.escape(name.capitalize())
    for n in range(len(name)):
        before, here, after = (re.escape(part) for part in (name[:n], name[n], name[n + 1 :]))
        if n + 1 < len(name):
            yield re.escape(name[:n] + name[n + 1] + name[n] + name[n + 2 :])
        if len(name) >= _LONG:
            yield f"{before}[a-z_-]?{after}"  # a letter left out, or another one
            yield f"{before}[a-z_-]{here}{after}"  # a letter too many


def axis_schema(value: Schema, when: str) -> Schema:
    """What may stand at a key that can vary: a value, or an axis over such values.

    Args:
        value: what one value must be.
        when: reference to the schema of conditions.
    """
    plain = {k: v for k, v in value.items() if k not in ("description", "default")}
    outer: Schema = {k: value[k] for k in ("description", "default") if k in value}
    if "enum" in value:  # editors propose these, where they do not look into `else`
        outer["examples"] = [each for each in value["enum"] if each is not None]
    axis = _axis(plain, when)
    # Not anyOf, whose errors speak of both sides: a mapping is meant to be an axis.
    return outer | {"if": {"type": "object"}, "then": axis, "else": plain}


def section_or_axis(section: str, when: str) -> Schema:
    """A section within a section, which may vary key by key or as a whole.

    Args:
        section: reference to its schema.
        when: reference to the schema of conditions.
    """
    is_axis = {"type": "object", "anyOf": [{"required": [kind]} for kind in AXIS_KINDS]}
    return {"if": is_axis, "then": _axis({"$ref": section}, when), "else": {"$ref": section}}


def condition_schema(value: Schema) -> Schema:
    """What a condition may ask of a key: a value, or one of a list of them."""
    return {"if": {"type": "array"}, "then": {"items": value, "minItems": 1}, "else": value}


def never(message: str) -> Schema:
    """What nothing meets: a key that must not be there.

    Args:
        message: what editors that know ``errorMessage`` say.
    """
    # Not the schema `false`: of it, Python's jsonschema names the mapping and not the key.
    return {"enum": [], "errorMessage": message}


def _axis(value: Schema, when: str) -> Schema:
    whole, real = (_takes(value, kind) for kind in ("integer", "number"))
    kinds: dict[str, Schema] = {
        "grid": _list(value, "Every one of these values."),
        "choice": _list(value, "Drawn from these values, all equally likely."),
    }
    if real:
        kinds["uniform"] = _range(value, "number", "Drawn evenly from [low, high].")
        kinds["loguniform"] = _range(
            {"allOf": [value, {"exclusiveMinimum": 0}]},
            "number",
            "Drawn evenly in the logarithm from [low, high].",
        )
    if whole or real:
        kinds["int"] = _range(value, "integer", "Whole numbers of [low, high], both included.")
    kinds["value"] = {"description": "This one value; useful with `when`.", **value}
    beside: dict[str, Schema] = {"when": {"$ref": when}}
    extra: Schema = {}
    if "int" in kinds:
        beside["step"] = {"description": "Of int: every so manyth.", "type": "integer"}
        beside["step"]["minimum"] = 1
        beside["log"] = {"description": "Of int: evenly in the logarithm.", "type": "boolean"}
        # Only beside `int`.
        extra = {"if": {"not": {"required": ["int"]}}}
        only = never("only beside int")
        extra["then"] = {"properties": {"step": only, "log": only}}
    return {
        "type": "object",
        "properties": kinds | beside,
        "additionalProperties": False,
        "oneOf": [{"required": [kind]} for kind in kinds],
    } | extra


def _list(value: Schema, description: str) -> Schema:
    return {
        "description": description,
        "type": "array",
        "items": value,
        "minItems": 1,
        "uniqueItems": True,
    }


def _range(value: Schema, kind: str, description: str) -> Schema:
    bound = {"allOf": [{"type": kind}, value]}
    return {"description": description, "type": "array", "items": bound} | {
        "minItems": 2,
        "maxItems": 2,
    }


def _takes(value: Schema, kind: str) -> bool:
    """Whether a value can be a number; of `kind` "number", one that need not be whole."""
    types = value.get("type", [])
    if not value or kind in (types if isinstance(types, list) else [types]):
        return True
    return any(_takes(each, kind) for each in value.get("anyOf", ()))


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    """A schema with its references replaced by what they refer to."""
    if isinstance(node, list):
        return [_inlined(each, definitions) for each in node]
    if not isinstance(node, dict):
        return copy.deepcopy(node)
    if isinstance(name := node.get("$ref"), str):
        rest = {key: value for key, value in node.items() if key != "$ref"}
        target = definitions[name.rpartition("/")[2]]
        return _inlined(target, definitions) | _inlined(rest, definitions)
    return {key: _inlined(value, definitions) for key, value in node.items()}


def _nullable(schema: Schema) -> Schema:
    """One form or null as one schema with both types: errors then name what is wrong within."""
    match schema.get("anyOf"):
        case [{"type": str(kind)} as form, {"type": "null"}]:
            both = {**form, "type": [kind, "null"]}
            if "enum" in form:
                both["enum"] = [*form["enum"], None]
            return {k: v for k, v in schema.items() if k != "anyOf"} | both
        case _:
            return schema


def _as_it_is(schema: Schema) -> Schema:
    return schema


def _distinct(schema: Schema) -> Schema:
    """No entry of the list is given twice; of several forms, in the form of a list."""
    forms = schema.get("anyOf", [schema])
    for form in forms:
        if form.get("type") == "array":
            form["uniqueItems"] = True
    return schema


def _objectives(schema: Schema) -> Schema:
    """The metrics that a search can go by."""
    names = {"enum": list(OBJECTIVES)}
    for form in schema["anyOf"]:
        if form["type"] == "array":
            form |= {"items": names, "uniqueItems": True}
        else:
            form |= names
    return schema


#: What models check in code, which pydantic's schema cannot say.
_KNOWN: dict[tuple[type[BaseModel], str], Any] = {
    (DatasetOptions, "name"): lambda _: known_names(known_datasets(), FOLDER_PREFIX),
    (DatasetOptions, "augment"): _distinct,
    (DatasetOptions, "scale"): _distinct,
    (EvaluationOptions, "features"): lambda schema: (
        known_names(known_extractors()) | {"default": schema["default"]}
    ),
    (SearchOptions, "metric"): _objectives,
    (StudyOptions, "seeds"): _distinct,  # twice the same seed is twice the same trial
}
