"""YAML 1.2 as its core schema reads it, within bounds; and plans, as they were written.

PyYAML finds the events of a document; what they mean is decided here. Of YAML 1.1, which PyYAML
would read, nothing is taken over that surprises: ``0100`` is 100, ``1:30`` and ``yes`` are texts.
A document is untrusted: its size, its depth, what its aliases make of it and the length of its
numbers are bounded, no tag makes an object, and no key counts twice.
"""

import copy
import math
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from kod_bench.errors import UsageError

#: A search space of a hundred thousand values has less than a megabyte.
MAX_BYTES = 4 * 2**20
#: Plans of the first format have all trials in full.
MAX_PLAN_BYTES = 64 * 2**20
#: Levels of mappings and lists; a search space has about eight.
MAX_DEPTH = 32
#: Characters and values that aliases may add to a document.
MAX_ALIASED = 10**6
#: Characters of a number.
MAX_DIGITS = 100

# The core schema, https://yaml.org/spec/1.2.2/#103-core-schema.
_NULLS = ("", "~", "null", "Null", "NULL")
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WHOLE = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# Numbers as PyYAML writes them: it leaves texts such as 08, 0o17 and 1e5 without quotes.
_WRITTEN_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")
_WRITTEN_REAL = re.compile(r"-?[0-9]+\.[0-9]+(e[-+][0-9]+)?")

_TAG = "tag:yaml.org,2002:"
_COLLECTIONS = (None, f"{_TAG}map", f"{_TAG}seq")
_Event = Any  # PyYAML's: its types lack what events of collections have
# libyaml reads a large document fifteen times as fast; who built PyYAML without it has the other.
_Parser: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises:
        UsageError: if the file cannot be read, is not YAML, is beyond the bounds, or holds
            something else.
    """
    return _mapping(_read(path, MAX_BYTES), str(path), written_here=False)


def load_plan(path: Path) -> dict[str, Any]:
    """Read a file that `dump_yaml` or an earlier version has written.

    Raises:
        UsageError: as from `load_yaml`.
    """
    return parse_plan(_read(path, MAX_PLAN_BYTES), str(path))


def parse_plan(text: str, where: str) -> dict[str, Any]:
    """The mapping in the text of such a file.

    Raises:
        UsageError: as from `load_yaml`.
    """
    return _mapping(text, where, written_here=True)


def parse_yaml(text: str, where: str) -> Any:
    """Read a YAML value.

    Args:
        text: of the value.
        where: names it in messages.

    Raises:
        UsageError: if it is not YAML, or is beyond the bounds.
    """
    return _parse(text, where, MAX_BYTES, written_here=False)


def dump_yaml(value: Any, **style: Any) -> str:
    """Write plain values so that YAML 1.1 and 1.2 read the same: what either takes is quoted.

    Args:
        value: of mappings with text keys, lists, texts, numbers, booleans and None.
        style: as PyYAML takes it.
    """
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, **style)
    return text


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that are numbers in the core schema alone."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(rf"^(?:{_WHOLE.pattern}|{_REAL.pattern}|{_NOT_FINITE.pattern})$"),
    list("-+.0123456789"),
)


def _read(path: Path, limit: int) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a named pipe would be waited for
            raise UsageError(f"{path}: is not a regular file")
        if status.st_size > limit:
            raise UsageError(f"{path}: has {status.st_size:,} bytes; at most {limit:,} are read")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not a UTF-8 text file") from error


def _mapping(text: str, where: str, *, written_here: bool) -> dict[str, Any]:
    limit = MAX_PLAN_BYTES if written_here else MAX_BYTES
    document = _parse(text, where, limit, written_here=written_here)
    if not isinstance(document, dict):
        raise UsageError(f"{where}: must hold a mapping of keys to values")
    return document


def _parse(text: str, where: str, limit: int, *, written_here: bool) -> Any:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{where}: holds bytes that are not UTF-8") from error
    if len(text) > limit:
        raise UsageError(f"{where}: has {len(text):,} characters; at most {limit:,} are read")
    # Without aliases, a document has fewer than two characters and values per character.
    builder = _Builder(where, 2 * len(text) + MAX_ALIASED, written_here=written_here)
    try:
        return builder.build(yaml.parse(text, Loader=_Parser))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UsageError(f"{where}{place}: is not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{where}: is not valid YAML: {' '.join(str(error).split())}") from error


class _Builder:
    """Makes plain values of the events of one document.

    Args:
        where: names the document in messages.
        room: characters and values that it may have with its aliases written out.
        written_here: whether numbers are only what PyYAML writes as such.
    """

    def __init__(self, where: str, room: int, *, written_here: bool) -> None:
        self._where = where
        self._room = room
        self._written_here = written_here
        # By name; None while what it names is not complete.
        self._anchors: dict[str, tuple[Any, int, int] | None] = {}
        self._weight = 0
        self._depth = 0

    def build(self, events: Iterator[_Event]) -> Any:
        """The value of the only document; None if there is none."""
        value, documents = None, 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._error(event, "a second document begins; keep one")
                if event.version is not None and tuple(event.version) != (1, 2):
                    raise self._error(event, "files are read as YAML 1.2; leave out the line %YAML")
            elif isinstance(event, yaml.NodeEvent):
                value = self._node(event, events)
        return value

    def _node(self, event: _Event, events: Iterator[_Event]) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._weight
        if event.anchor is not None:
            if event.anchor in self._anchors:
                raise self._error(event, f"the anchor &{event.anchor} is given twice")
            self._anchors[event.anchor] = None
        self._add(event, 1)
        if isinstance(event, yaml.ScalarEvent):
            self._add(event, len(event.value))
            value = self._scalar(event)
        else:
            if event.tag not in _COLLECTIONS:
                raise self._error(event, f"the tag {_short(event.tag)} is not allowed here")
            if self._depth == MAX_DEPTH:
                raise self._error(event, f"is more than {MAX_DEPTH} levels deep")
            self._depth += 1
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            value = self._pairs(events) if is_mapping else self._items(events)
            self._depth -= 1
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._weight - before, _height(value)
        return value

    def _alias(self, event: _Event) -> Any:
        if event.anchor not in self._anchors:
            raise self._error(event, f"there is no anchor &{event.anchor} above")
        if (found := self._anchors[event.anchor]) is None:
            raise self._error(event, f"*{event.anchor} stands inside of what it names")
        value, weight, height = found
        if self._depth + height > MAX_DEPTH:
            raise self._error(event, f"is more than {MAX_DEPTH} levels deep")
        self._add(event, weight)
        return copy.deepcopy(value)  # who changes one of them does not mean the other

    def _items(self, events: Iterator[_Event]) -> list[Any]:
        items = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, events))
        return items

    def _pairs(self, events: Iterator[_Event]) -> dict[Any, Any]:
        own: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        said: set[tuple[type, str]] = set()
        has_merge = False
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            is_merge = (
                isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]
            )
            key = self._node(event, events)
            if isinstance(key, dict | list):
                raise self._error(event, "a key must be a single value")
            if (type(key), str(key)) in said or (is_merge and has_merge):
                raise self._error(event, f"the key {_short(key)!r} is given twice")
            said.add((type(key), str(key)))  # 1 and true are two keys, though Python's == is one
            value = self._node(next(events), events)
            if is_merge:
                has_merge = True
                for each in reversed(value if isinstance(value, list) else [value]):
                    if not isinstance(each, Mapping):
                        raise self._error(event, "<< takes a mapping, or a list of mappings")
                    merged |= each
            else:
                own[key] = value
        return {**merged, **own} if has_merge else own

    def _scalar(self, event: _Event) -> Any:
        text: str = event.value
        if event.tag in ("!", f"{_TAG}str") or (event.tag is None and not event.implicit[0]):
            return text
        found, kind = self._plain(event, text)
        if event.tag == f"{_TAG}float" and kind == "int":
            return float(found)
        if event.tag not in (None, f"{_TAG}{kind}"):
            raise self._error(event, f"the tag {_short(event.tag)} is not allowed here")
        return found

    def _plain(self, event: _Event, text: str) -> tuple[Any, str]:
        """The value of a scalar without quotes, and the core schema's name of its type."""
        if text in _NULLS:
            return None, "null"
        if text in _BOOLEANS:
            return _BOOLEANS[text], "bool"
        if text[0] not in "-+.0123456789":
            return text, "str"
        if _NOT_FINITE.fullmatch(text):
            return float(text.replace(".", "")), "float"
        whole, real = _WHOLE, _REAL
        if self._written_here:
            whole, real = _WRITTEN_WHOLE, _WRITTEN_REAL
        is_whole = whole.fullmatch(text) is not None
        if not is_whole and not real.fullmatch(text):
            return text, "str"
        if len(text) > MAX_DIGITS:
            raise self._error(
                event,
                f"{_short(text)} is a number of {len(text):,} characters; at most {MAX_DIGITS} "
                "are read (quote a text)",
            )
        if is_whole:
            base = {"0o": 8, "0x": 16}.get(text[:2])
            return (int(text) if base is None else int(text[2:], base)), "int"
        number = float(text)
        if math.isinf(number) or (number == 0 and re.search("[1-9]", re.split("[eE]", text)[0])):
            raise self._error(event, f"{text} is beyond what a number can hold")
        # Whole numbers with an exponent are those where one is asked for: iterations: 1e5.
        if "." not in text and number.is_integer() and abs(number) <= 2**53:
            return int(number), "float"
        return number, "float"

    def _add(self, event: _Event, weight: int) -> None:
        self._weight += weight
        if self._weight > self._room:
            raise self._error(event, "its aliases make it too large; write less with them")

    def _error(self, event: _Event, problem: str) -> UsageError:
        mark = event.start_mark
        return UsageError(f"{self._where}:{mark.line + 1}:{mark.column + 1}: {problem}")


def _height(value: Any) -> int:
    """Levels of mappings and lists in a value; at most `MAX_DEPTH`."""
    if not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_height, inner), default=0)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
