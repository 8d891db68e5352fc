"""What docstrings say of the keys of a search space: the texts that editors show."""

import inspect
import re
from typing import Any

_SECTION = re.compile(r"^(?:Args|Attributes):\n((?:[ \t]+.*\n?|\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)


def descriptions(kind: type[Any]) -> dict[str, str]:
    """By name, what a class's docstring says of its arguments and attributes, on one line each.

    What it leaves out is taken from the classes that it extends.
    """
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        text = inspect.cleandoc(each.__doc__ or "")
        for body in _SECTION.findall(text):
            found |= {name: " ".join(said.split()) for name, said in _ENTRY.findall(body)}
    return found


def summary(kind: type[Any]) -> str:
    """The first sentence of a class's docstring."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].split())
