"""All figures that the cells of a comparable set of rows support."""

import json
from collections.abc import Mapping
from typing import Any

from kod_bench.reports.content import Group
from kod_bench.reports.figures.chart import Figure
from kod_bench.reports.figures.quality import against_cost, against_steps
from kod_bench.reports.figures.search import heat_maps, sampled
from kod_bench.reports.metrics import METRICS, of_hues


def content_figures(group: Group, configurations: Mapping[str, str]) -> list[Figure]:
    """All figures that a group's cells support.

    Args:
        group: rows that may be compared.
        configurations: resolved configurations as JSON, by a cell's `configuration`.
    """
    found: list[Figure] = []
    for metric, reported in METRICS.items():
        if reported.of_model:  # the same at every number of evaluations
            continue
        name = of_hues(metric, group.metrics) + reported.name[0].upper() + reported.name[1:]
        if (chart := against_steps(group, metric, name)) is not None:
            found.append(chart)
    first = METRICS[group.headline].name
    first = first[0].upper() + first[1:]
    for chart in (
        against_cost(
            group,
            "seconds",
            f"{first} and speed",
            "seconds per image",
            lambda cell: cell.seconds_per_image,
        ),
        against_cost(
            group,
            "training",
            f"{first} and training",
            "training time, seconds",
            lambda cell: cell.training_seconds,
        ),
    ):
        if chart is not None:
            found.append(chart)
    read = {key: _flat(text) for key, text in configurations.items()}
    found += heat_maps(group, read)
    found += sampled(group, read)
    return found


def _flat(text: str) -> dict[str, Any]:
    """A configuration's values by dotted key; nothing of one that cannot be read."""
    found: dict[str, Any] = {}

    def walk(value: object, key: str) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(inner, f"{key}.{name}" if key else str(name))
        else:
            found[key] = value

    try:
        walk(json.loads(text), "")
    except (ValueError, RecursionError):
        return {}
    return found
