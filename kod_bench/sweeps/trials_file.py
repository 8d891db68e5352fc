"""The file of a plan's trials: one JSON object per line, and what all of them share only once.

::

    {"common": {"dataset": {...}, "process": "kuramoto", ...}}
    {"id": "kuramoto-T100-seed0-0123abcd", "own": {"model": "kuramoto", "seed": 0, ...}}

Ten thousand trials are some megabytes, read in a fraction of a second; one of them is found
without decoding the others.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class DamagedError(ValueError):
    """The file is not what was written."""


def encode_trials(trials: Sequence[tuple[str, Mapping[str, Any]]]) -> bytes:
    """Write (id, values) pairs; the values of all trials have the same keys."""
    first = trials[0][1] if trials else {}
    common = {k: v for k, v in first.items() if all(values[k] == v for _, values in trials)}
    lines: list[dict[str, Any]] = [{"common": common}]
    for name, values in trials:
        own = {key: value for key, value in values.items() if key not in common}
        lines.append({"id": name, "own": own})
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def decode_trials(content: bytes) -> Iterable[dict[str, Any]]:
    """Invert `encode_trials`: the values of every trial.

    Raises:
        DamagedError: if a line is not what was written.
    """
    first, *lines = content.splitlines()
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


def _field(line: bytes, key: str) -> dict[str, Any]:
    try:
        value = json.loads(line)[key]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"a line of the trials has no {key!r}: {line[:40]!r}") from error
    if not isinstance(value, dict):
        raise DamagedError(f"a line of the trials has no mapping {key!r}: {line[:40]!r}")
    return value
