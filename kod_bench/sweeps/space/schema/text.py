"""A JSON Schema as a file: what is said more than once stands once, what is short on one line."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

#: Schemas of fewer characters are repeated: a reference would be hardly shorter.
_WORTH_A_NAME = 60
_WIDTH = 100
#: Keywords whose value maps names to schemas, and is none itself.
_NAMED = ("properties", "$defs")
_LISTS = ("allOf", "anyOf", "oneOf")
_SINGLE = ("additionalProperties", "items", "not", "if", "then", "else")


def shared(schema: Schema) -> Schema:
    """The same schema with every part that it repeats under a name in `$defs`."""
    counts: Counter[str] = Counter()
    for _, part in _parts("", schema):
        counts[_canonical(part)] += 1
    names: dict[str, str] = {}
    for key, part in _parts("", schema):
        text = _canonical(part)
        if counts[text] > 1 and len(text) >= _WORTH_A_NAME and text not in names:
            names[text] = _new_name(key or "part", names.values(), schema["$defs"])
    definitions = {name: _replaced(json.loads(text), names) for text, name in names.items()}
    found: Schema = _replaced(schema, names)
    found["$defs"] |= definitions
    return _only_used(found)


def to_text(node: Any, indent: int = 0) -> str:
    """JSON of at most 100 characters a line, where strings allow it."""
    line = json.dumps(node, ensure_ascii=False)
    if indent + len(line) <= _WIDTH or not node or not isinstance(node, dict | list):
        return line
    inner = "\n" + " " * (indent + 1)
    if isinstance(node, list):
        body = ("," + inner).join(to_text(each, indent + 1) for each in node)
        return f"[{inner}{body}\n{' ' * indent}]"
    body = ("," + inner).join(
        f"{json.dumps(key, ensure_ascii=False)}: {to_text(value, indent + 1)}"
        for key, value in node.items()
    )
    return f"{{{inner}{body}\n{' ' * indent}}}"


def _parts(key: str, schema: Any) -> Iterator[tuple[str, Schema]]:
    """Every schema within a schema, outer ones first, with the property that it is of."""
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        if keyword in _NAMED:
            inside = [(name, each) for name, each in value.items()]
        elif keyword in _LISTS:
            inside = [(key, each) for each in value]
        elif keyword in _SINGLE:
            inside = [(key, value)]
        else:
            continue
        for name, each in inside:
            if isinstance(each, dict):
                yield name, each
                yield from _parts(name, each)


def _replaced(node: Schema, names: dict[str, str]) -> Schema:
    """A schema whose parts are references where they have a name; not itself."""

    def part(each: Any) -> Any:
        if not isinstance(each, dict):
            return each
        name = names.get(_canonical(each))
        return _replaced(each, names) if name is None else {"$ref": f"#/$defs/{name}"}

    found: Schema = {}
    for keyword, value in node.items():
        if keyword == "$defs":
            found[keyword] = {name: _replaced(each, names) for name, each in value.items()}
        elif keyword in _NAMED:
            found[keyword] = {name: part(each) for name, each in value.items()}
        elif keyword in _LISTS:
            found[keyword] = [part(each) for each in value]
        elif keyword in _SINGLE:
            found[keyword] = part(value)
        else:
            found[keyword] = value
    return found


def _only_used(schema: Schema) -> Schema:
    """Without definitions that stood only within others which have a name now."""
    while True:
        text = json.dumps(schema)
        used = {k: v for k, v in schema["$defs"].items() if f'"#/$defs/{k}"' in text}
        if len(used) == len(schema["$defs"]):
            return schema
        schema = {**schema, "$defs": used}


def _new_name(wanted: str, taken: Any, defined: Schema) -> str:
    number, name = 1, f"{wanted}.1"
    while name in taken or name in defined:
        number += 1
        name = f"{wanted}.{number}"
    return name


def _canonical(schema: Schema) -> str:
    return json.dumps(schema, sort_keys=False)
