"""The store: one Parquet file per row, written last and atomically.

A trial is done if and only if its row file can be read. There is no shared file that a crash
could damage and no writer that another could race.
"""

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from kod_bench.results.row import Row

ROW_FILE = "row.parquet"

#: Pictures beside the rows: samples in each trial's folder, real images in the sweep's.
GRID_FILE = "samples.png"
REAL_FILE = "real.png"

_ARROW_TYPES: dict[type, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


def _schema() -> pa.Schema:
    columns = []
    for field in fields(Row):
        optional = isinstance(field.type, UnionType)
        kind: Any = get_args(field.type)[0] if optional else field.type
        columns.append(pa.field(field.name, _ARROW_TYPES[kind], nullable=optional))
    return pa.schema(columns)


SCHEMA = _schema()


@dataclass(frozen=True)
class ReadRows:
    """The rows of a sweep, and the row files that could not be read."""

    rows: list[Row]
    unreadable: list[Path]


def write_row(folder: Path, row: Row) -> Path:
    """Write `row` into its trial's folder: all of it, or nothing.

    Returns:
        The path of the row file.
    """
    path = folder / ROW_FILE
    temporary = folder / f".{ROW_FILE}.{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as file:
            pq.write_table(pa.Table.from_pylist([asdict(row)], schema=SCHEMA), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_row(folder: Path) -> Row | None:
    """Read a trial's row; None if there is none, or none that can be read."""
    try:
        records = pq.read_table(folder / ROW_FILE, schema=SCHEMA).to_pylist()
        return Row(**records[0]) if len(records) == 1 else None
    except (OSError, pa.ArrowException):
        return None


def read_rows(trials: Path) -> ReadRows:
    """Read the rows of all trials under a folder, in the order of the trials' names."""
    rows, unreadable = [], []
    for path in sorted(trials.glob(f"*/{ROW_FILE}")):
        row = read_row(path.parent)
        if row is None:
            unreadable.append(path)
        else:
            rows.append(row)
    return ReadRows(rows, unreadable)
