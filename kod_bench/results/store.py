"""The store: one Parquet file of rows per trial, written last and atomically.

A trial is done if and only if its row file can be read. There is no shared file that a crash
could damage and no writer that another could race.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from kod_bench.atomic import atomic_write
from kod_bench.results.row import Row

ROW_FILE = "row.parquet"

#: A picture of real images, in the sweep's folder.
REAL_FILE = "real.png"
#: Likewise, of maps of the sphere, projected.
REAL_MAPS_FILE = "real-mollweide.png"


def grid_file(prior: str, sampler: str, network_evaluations: int) -> str:
    """Name of the picture of samples in a trial's folder, one for each of its rows."""
    return f"samples-{prior}-{sampler}-{network_evaluations}.png"


def maps_file(prior: str, sampler: str, network_evaluations: int) -> str:
    """Likewise, of samples that are maps of the sphere, in the Mollweide projection."""
    return f"mollweide-{prior}-{sampler}-{network_evaluations}.png"


def nearest_file(prior: str, sampler: str, network_evaluations: int) -> str:
    """Likewise, of the samples that are closest to a training image, with that image."""
    return f"nearest-{prior}-{sampler}-{network_evaluations}.png"


def trajectory_file(prior: str, sampler: str, network_evaluations: int, film: bool = False) -> str:
    """Likewise, of states on the way from the prior to the samples; a strip, or a film."""
    suffix = "gif" if film else "png"
    return f"trajectory-{prior}-{sampler}-{network_evaluations}.{suffix}"


def forward_end_file(prior: str) -> str:
    """Name of the picture of where the forward process ends, beside a prior."""
    return f"forward-end-{prior}.png"


def measured_file(prior: str, sampler: str, network_evaluations: int) -> str:
    """Name of the numbers that figures need of one row, and no table: curves, histograms."""
    return f"measured-{prior}-{sampler}-{network_evaluations}.json"


def is_picture(name: str) -> bool:
    """Whether a file of a trial's folder is one of the pictures, or the numbers for one."""
    return name.startswith(_PICTURES) and name.endswith((".png", ".gif", ".json"))


_PICTURES = ("samples-", "mollweide-", "nearest-", "trajectory-", "forward-end-", "measured-")


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


def write_rows(folder: Path, rows: Sequence[Row]) -> Path:
    """Write all rows of a trial into its folder: all of them, or nothing.

    Returns:
        The path of the row file.

    Raises:
        ValueError: if there is no row, since a file without rows would mean a trial half done.
    """
    if not rows:
        raise ValueError(f"{folder}: a trial without a row cannot be written as done")
    path = folder / ROW_FILE
    with atomic_write(path) as file:
        pq.write_table(pa.Table.from_pylist([asdict(r) for r in rows], schema=SCHEMA), file)
    return path


def read_trial(folder: Path) -> list[Row] | None:
    """Read a trial's rows; None if there are none, or none that can be read."""
    path = folder / ROW_FILE
    if not path.is_file():
        return None  # most trials of a large plan: far quicker than being told by Parquet
    try:
        return parse_rows(path)
    except OSError:
        return None


def parse_rows(source: Path | bytes) -> list[Row] | None:
    """The rows of a row file, or of its content; None if there are none, or it is damaged.

    Raises:
        OSError: if the file cannot be read.
    """
    file = pa.BufferReader(source) if isinstance(source, bytes) else source
    try:
        with pq.ParquetFile(file) as opened:
            # A third of the time that `pq.read_table` takes, which is for rows of other versions.
            if opened.schema_arrow.equals(SCHEMA):
                records = opened.read(use_threads=False).to_pylist()
            else:
                records = pq.read_table(file, schema=SCHEMA).to_pylist()
    except (pa.ArrowException, ValueError):  # the latter: bytes that are no text
        return None
    except OSError:  # which Parquet says of much damage, too
        if isinstance(source, bytes):
            return None
        raise
    return [Row(**record) for record in records] or None


def read_rows(trials: Path) -> ReadRows:
    """Read the rows of all trials under a folder, in the order of the trials' names."""
    rows, unreadable = [], []
    for path in sorted(trials.glob(f"*/{ROW_FILE}")):
        found = read_trial(path.parent)
        if found is None:
            unreadable.append(path)
        else:
            rows.extend(found)
    return ReadRows(rows, unreadable)
