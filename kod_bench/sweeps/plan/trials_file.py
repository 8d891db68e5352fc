"""The file of a plan's trials: one JSON object per line, and what all of them share only once.

::

    {"common": {"dataset": {...}, "process": "kuramoto", ...}}
    {"id": "kuramoto-T100-seed0-0123abcd", "own": {"model": "kuramoto", "seed": 0, ...}}

A trial whose values were drawn also says from where: ``"group"`` names its model and grid point,
``"drawn"`` has the values by key. Lines can be added (`encode_more`); no line ever changes.

Ten thousand trials are some megabytes, read in a fraction of a second; one of them is found
without decoding the others.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class DamagedError(ValueError):
    """The file is not what was written."""


@dataclass(frozen=True)
class Drawn:
    """Where a trial's drawn values belong.

    Attributes:
        group: name of the model and the grid point.
        values: by the key's dotted path.
    """

    group: str
    values: dict[str, Any]


def encode_trials(
    trials: Sequence[tuple[str, Mapping[str, Any]]],
    drawn: Mapping[str, Drawn] | None = None,
    alike: Sequence[Mapping[str, Any]] | None = None,
) -> bytes:
    """Write (id, values) pairs; a key that only some of the values have is never shared.

    Args:
        trials: to write.
        drawn: by id, of those trials whose values were drawn.
        alike: values of trials that tell what the file's will share; None for `trials`.
    """
    every = [values for _, values in trials] if alike is None else alike
    first = every[0] if every else {}
    common = {k: v for k, v in first.items() if all(k in o and o[k] == v for o in every)}
    head = json.dumps({"common": common}).encode() + b"\n"
    return head + encode_more(head, trials, drawn or {})


def encode_more(
    content: bytes,
    trials: Sequence[tuple[str, Mapping[str, Any]]],
    drawn: Mapping[str, Drawn],
    sign: Callable[[bytes], str] | None = None,
) -> bytes:
    """The lines of further trials, to be put behind what is there.

    Args:
        content: of the file so far.
        trials: to add.
        drawn: as in `encode_trials`.
        sign: of a line without its end; the signature is added to it.
    """
    common = _field(content[: content.find(b"\n")], "common")
    lines = []
    for name, values in trials:
        own = {k: v for k, v in values.items() if k not in common or common[k] != v}
        line: dict[str, Any] = {"id": name, "own": own}
        if (from_where := drawn.get(name)) is not None:
            line |= {"group": from_where.group, "drawn": from_where.values}
        if sign is not None:
            line["signed"] = sign(json.dumps(line).encode())
        lines.append(json.dumps(line).encode() + b"\n")
    return b"".join(lines)


def signed_lines(content: bytes, frozen: int) -> Iterator[tuple[bytes, str]]:
    """Lines that were added to a file, each as it was signed, and its signature.

    Args:
        content: of the file.
        frozen: length of its beginning, to which they were added.

    Raises:
        DamagedError: if a line is not what was written.
    """
    for text in content[frozen:].splitlines():
        try:
            line = json.loads(text)
            name = str(line.pop("signed", ""))
        except (ValueError, AttributeError, RecursionError) as error:
            raise DamagedError(f"a line of the trials is damaged: {text[:40]!r}") from error
        yield json.dumps(line).encode(), name


def decode_ids(content: bytes) -> list[str]:
    """The ids of all trials, in the order of the file.

    Raises:
        DamagedError: if a line is not what was written.
    """
    try:
        return [str(json.loads(line)["id"]) for line in content.splitlines()[1:]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError("a line of the trials has no id") from error


def decode_drawn(content: bytes) -> dict[str, Drawn]:
    """What `encode_trials` and `encode_more` were told of drawn values, in the order of the file.

    Raises:
        DamagedError: if a line is not what was written.
    """
    found = {}
    for text in content.splitlines()[1:]:
        try:
            line = json.loads(text)
            if "group" in line:
                found[str(line["id"])] = Drawn(str(line["group"]), dict(line["drawn"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedError(f"a line of the trials is damaged: {text[:40]!r}") from error
    return found


def decode_trials(content: bytes) -> Iterable[dict[str, Any]]:
    """Invert `encode_trials`: the values of every trial.

    Raises:
        DamagedError: if a line is not what was written.
    """
    first, *lines = content.splitlines() or [b""]
    common = _field(first, "common")
    for line in lines:
        yield common | _field(line, "own")


def decode_trial(content: bytes, name: str) -> dict[str, Any] | None:
    """The values of one trial; None if there is none of this id.

    Raises:
        DamagedError: if its line, or the first one, is not what was written.
    """
    beginning = b"\n" + json.dumps({"id": name})[:-1].encode() + b","
    if (start := content.find(beginning)) < 0:
        return None
    line = content[start + 1 : content.find(b"\n", start + 1)]
    return _field(content[: content.find(b"\n")], "common") | _field(line, "own")


def decode_companions(content: bytes, name: str) -> list[str]:
    """Ids of the other trials of a trial's group and seed; none if its values were not drawn.

    Raises:
        DamagedError: if a line is not what was written.
    """
    drawn = decode_drawn(content)
    if name not in drawn:
        return []
    group = drawn[name].group
    common = _field(content[: content.find(b"\n")], "common")
    seeds = {}
    for text in content.splitlines()[1:]:
        line = json.loads(text)
        if line.get("group") == group:
            seeds[line["id"]] = line["own"].get("seed", common.get("seed"))
    return [other for other, seed in seeds.items() if seed == seeds[name] and other != name]


def _field(line: bytes, key: str) -> dict[str, Any]:
    try:
        value = json.loads(line)[key]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"a line of the trials has no {key!r}: {line[:40]!r}") from error
    if not isinstance(value, dict):
        raise DamagedError(f"a line of the trials has no mapping {key!r}: {line[:40]!r}")
    return value
