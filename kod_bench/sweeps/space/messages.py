"""Validation errors as one line: the key's path, what is wrong, what is allowed."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError


def contains(document: Mapping[str, Any], where: tuple[str | int, ...]) -> bool:
    """Whether a document says something at a path."""
    node: Any = document
    for key in where:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def first_error(
    error: ValidationError, model: type[BaseModel], also: Sequence[str] = ()
) -> tuple[tuple[str | int, ...], str]:
    """The path and the message of what is wrong, of one thing if of many.

    Args:
        error: of the validation.
        model: that was validated.
        also: keys allowed beside its own.
    """
    # A misspelt key before the key that it leaves missing.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    where = first["loc"]
    if first["type"] == "missing":
        return where, "this key is required"
    if first["type"] == "value_error" and isinstance(first["input"], dict):
        # A rule of ours about several keys of a section.
        return where, first["msg"].removeprefix("Value error, ")
    if first["type"] != "extra_forbidden":
        message = first["msg"].removeprefix("Value error, ")
        return where, f"{first['input']!r} is not allowed: {message}{_of_yaml_1_1(first['input'])}"
    section: Any = model
    for key in where[:-1]:
        section = section.model_fields[key].annotation
    return where, unknown_key(
        str(where[-1]), [*section.model_fields, *(also if len(where) == 1 else ())]
    )


def _of_yaml_1_1(value: Any) -> str:
    """A word to who writes what YAML 1.1 took for something else than a text."""
    if not isinstance(value, str):
        return ""
    if value.lower() in ("yes", "no", "on", "off", "y", "n"):
        return "; YAML 1.2 says true or false"
    if re.fullmatch(r"[-+]?[0-9][0-9_:.]*", value):
        return "; numbers of YAML 1.2 have neither _ nor :"
    return ""


def unknown_key(key: str, allowed: Sequence[str]) -> str:
    """The message for a key that is not among those allowed; these may be dotted paths."""
    tails = [name for name in allowed if name.rpartition(".")[2] == key]
    close = tails or difflib.get_close_matches(key, allowed, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    listed = [name for name in allowed if "." not in name]
    return f"unknown key; {hint}allowed: {', '.join(listed)}"


def dotted(where: tuple[str | int, ...]) -> str:
    """A path as people write it."""
    return ".".join(map(str, where))
