"""Choosing rows: ``--dataset fingerprints --where 'model=kuramoto*' --where 'steps>=50'``."""

import fnmatch
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from kod_bench.errors import UsageError
from kod_bench.reports.frame import COLUMNS

_CONDITION = re.compile(r"\s*([A-Za-z_]+)\s*(!=|>=|<=|=|>|<)\s*(.*?)\s*", re.DOTALL)
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


def filter_rows(
    rows: pd.DataFrame, datasets: Sequence[str] = (), conditions: Sequence[str] = ()
) -> pd.DataFrame:
    """Rows of one of the data sets that meet all conditions.

    Args:
        rows: as `frame` makes them.
        datasets: by name; none for all.
        conditions: a column, one of ``= != < <= > >=``, and a value; in a text, ``*`` stands for
            anything.

    Raises:
        UsageError: naming what is not there, and what is.
    """
    kept = pd.Series(True, index=rows.index)
    if datasets:
        known = sorted(rows["dataset"].dropna().unique())
        for name in datasets:
            if name not in known:
                raise UsageError(f"--dataset {name!r}: no rows of it; there are {_all(known)}")
        kept &= rows["dataset"].isin(datasets)
    for condition in conditions:
        kept &= _meets(rows, condition)
    return rows[kept.to_numpy(dtype=bool)].reset_index(drop=True)


def check_conditions(conditions: Sequence[str]) -> None:
    """Refuse conditions that no rows could be asked, before any are read.

    Raises:
        UsageError: in one line.
    """
    for condition in conditions:
        _parsed(condition)


def _parsed(condition: str) -> tuple[str, str, Any]:
    found = _CONDITION.fullmatch(condition)
    if found is None:
        raise UsageError(
            f"--where {condition!r}: must be a column, one of {' '.join(_OPERATORS)}, and a value, "
            "such as 'model=ddpm' or 'steps>=50'"
        )
    name, sign, text = found.groups()
    allowed = [column for column in COLUMNS.names if column != "config"]
    if name not in allowed:
        raise UsageError(f"--where {condition!r}: no column {name!r}; choose from {_all(allowed)}")
    kind = COLUMNS.field(name).type
    if pa.types.is_string(kind):
        if sign not in ("=", "!="):
            raise UsageError(f"--where {condition!r}: {name} is a text, which takes = or !=")
        return name, sign, text
    if pa.types.is_boolean(kind):
        if text.lower() not in ("true", "false") or sign not in ("=", "!="):
            raise UsageError(f"--where {condition!r}: {name} takes = or != and true or false")
        return name, sign, text.lower() == "true"
    try:
        return name, sign, float(text)
    except ValueError:
        raise UsageError(f"--where {condition!r}: {name} is a number, {text!r} is none") from None


def _meets(rows: pd.DataFrame, condition: str) -> "pd.Series[bool]":
    name, sign, value = _parsed(condition)
    column = rows[name]
    if isinstance(value, str):
        distinct = {
            v for v in column.dropna().unique() if fnmatch.fnmatchcase(str(v), _glob(value))
        }
        same = column.isin(distinct)
        return same if sign == "=" else ~same & column.notna()
    met = _OPERATORS[sign](column, value)
    return pd.Series(met, index=rows.index).fillna(False).astype(bool) & column.notna()


def _glob(text: str) -> str:
    """Only ``*`` is special: brackets and question marks are parts of names."""
    return text.replace("[", "[[]").replace("?", "[?]")


def _all(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
