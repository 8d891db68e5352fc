"""What rows say of the plug-ins that they were made with. None is imported for a report."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from kod_bench.plugins import WORDS


@dataclass(frozen=True)
class RowPlugin:
    """A plug-in behind some rows.

    Attributes:
        what: the kind, as a reader calls it.
        name: as search spaces have it.
        package: the distribution's name and version.
        source: hash of its source.
        rows: how many.
    """

    what: str
    name: str
    package: str
    source: str
    rows: int


def row_plugins(rows: pd.DataFrame) -> tuple[RowPlugin, ...]:
    """Every plug-in behind the rows, in each of its versions."""
    found: dict[tuple[str, str, str, str], int] = {}
    for text, count in rows["plugins"].astype(object).value_counts().items():
        for each in _read(str(text)):
            key = (
                WORDS.get(each.get("kind"), "plug-in"),  # type: ignore[call-overload]
                str(each.get("name")),
                f"{each.get('package')} {each.get('version')}",
                str(each.get("source")),
            )
            found[key] = found.get(key, 0) + int(count)
    return tuple(RowPlugin(*key, count) for key, count in sorted(found.items(), key=str))


def plugin_statements(rows: pd.DataFrame) -> list[str]:
    """A sentence for each plug-in."""
    versions: dict[tuple[str, str], list[RowPlugin]] = {}
    for each in row_plugins(rows):
        versions.setdefault((each.what, each.name), []).append(each)
    said = []
    for (what, name), found in versions.items():
        each_of = ", ".join(
            f"{each.package}, source {each.source} ({each.rows} row{'s' * (each.rows > 1)})"
            for each in found
        )
        versions_of = f"{len(found)} versions of a plug-in" if len(found) > 1 else "a plug-in"
        said.append(f"{what.capitalize()} {name} is {versions_of}: {each_of}.")
    return said


def _read(text: str) -> list[Mapping[str, object]]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [each for each in said if isinstance(each, dict)] if isinstance(said, list) else []
