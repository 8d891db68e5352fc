"""Conditions: whether what a `when` asks for is something that can be."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from kod_bench.diffusion import process_names
from kod_bench.errors import UsageError
from kod_bench.sweeps.space.axes import Axis, Condition, Path
from kod_bench.sweeps.space.keys import PROCESS, SECTIONS, fields_of
from kod_bench.sweeps.space.messages import dotted, unknown_key


def check_condition(
    when: str,
    condition: Condition,
    fields: Mapping[Path, FieldInfo],
    axis: Axis | None,
    *,
    shared: bool,
    processes: Iterable[str],
) -> None:
    """Refuse a condition on a key that a model cannot have, or on a value that the key cannot have.

    Args:
        when: names the conditions in messages.
        condition: one of them.
        fields: every key of the model.
        axis: of the key that the condition is on, if that varies.
        shared: whether the condition stands in a section for all models, only some of which may
            have the key; for the others it does not hold.
        processes: some of which may have it.

    Raises:
        UsageError: with the condition's path and what is allowed.
    """
    where = f"{when}.{dotted(condition.path)}"
    if condition.path == PROCESS:
        _check_processes(where, condition)
        return
    if condition.path not in fields:
        if shared and any(condition.path in fields_of(process) for process in processes):
            return
        names = ["process", *map(dotted, fields)]
        short = [name for name in names if "." not in name] + [f"{s}.KEY" for s in SECTIONS]
        message = unknown_key(dotted(condition.path), names).partition("allowed: ")[0]
        raise UsageError(f"{where}: {message}allowed: {', '.join(short)}")
    kind: Any = fields[condition.path].annotation
    adapter = TypeAdapter[Any](kind)
    for value in condition.values:
        try:
            adapter.validate_json(json.dumps(value, default=str), strict=True)
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise UsageError(f"{where}: {value!r} is not allowed: {message}") from error
    if axis is None:
        return
    if axis.kind in ("uniform", "loguniform"):
        raise UsageError(f"{where}: a condition cannot be on {axis.kind}, only on single values")
    for value in condition.values:
        if not axis.may_be(value):
            raise UsageError(f"{where}: {value!r} is none of the values that the axis has")


def _check_processes(where: str, condition: Condition) -> None:
    for value in condition.values:
        if value not in process_names():
            known = ", ".join(process_names())
            raise UsageError(f"{where}: {value!r} is not a process; known: {known}")
