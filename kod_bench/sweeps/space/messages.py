"""Validation errors as one line: the key's path, what is wrong, what is allowed."""

import difflib
from collections.abc import Mapping
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
    error: ValidationError, model: type[BaseModel]
) -> tuple[tuple[str | int, ...], str]:
    """The path and the message of what is wrong, of one thing if of many."""
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
        return where, f"{first['input']!r} is not allowed: {message}"
    section: Any = model
    for key in where[:-1]:
        section = section.model_fields[key].annotation
    allowed = list(section.model_fields)
    close = difflib.get_close_matches(str(where[-1]), allowed, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return where, f"unknown key; {hint}allowed: {', '.join(allowed)}"


def dotted(where: tuple[str | int, ...]) -> str:
    """A path as people write it."""
    return ".".join(map(str, where))
