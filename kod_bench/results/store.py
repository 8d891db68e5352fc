"""The store: one Parquet file of rows per trial, written last and atomically.

A trial is done if and only if its row file can be read. There is no shared file that a crash
could damage and no writer that another could race.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kod_bench.atomic import atomic_write
from kod_bench.inside import MOST_ROWS, read_bytes
from kod_bench.results.row import Row
from kod_bench.visible import ACTING

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


#: Rows of a file, which has one for each way of drawing samples, and their bytes when unpacked:
#: equal values are packed so well that a small file can hold more than any memory.
MOST_FILE_ROWS = 10_000
MOST_UNPACKED = 2**30
#: Bytes of a name or remark in a row, and of its configuration or list of packages.
MOST_NAME = 4096
MOST_TEXT = 2**20
#: As `kod_bench.visible` has them, in the notation of Arrow's regular expressions.
_ACTING = re.sub(r"\\u([0-9a-f]{4})", r"\\x{\1}", ACTING)
#: Columns that rows of every version have, and none can do without.
_ALWAYS = frozenset(
    (
        *("space", "sweep", "trial", "model", "process", "steps", "seed", "config", "config_hash"),
        *("dataset", "data_hash", "image_size", "iterations", "loss"),
        *("prior", "sampler", "network_evaluations", "kid", "fid"),
        *("features", "sample_count", "reference_count", "reference_hash"),
    )
)
_LONG_TEXTS = ("config", "packages")

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
    try:
        return parse_rows(read_bytes(folder / ROW_FILE, MOST_ROWS))
    except OSError:
        return None


def parse_rows(content: bytes) -> list[Row] | None:
    """The rows in the content of a row file; None if there are none, or it is damaged."""
    file = pa.BufferReader(content)
    try:
        with pq.ParquetFile(file) as opened:
            if not is_bounded(opened.metadata):
                return None
            # A third of the time that `pq.read_table` takes, which is for rows of other versions.
            if opened.schema_arrow.equals(SCHEMA):
                table = opened.read(use_threads=False)
            else:
                table = pq.read_table(file, schema=SCHEMA)
            if not is_sound(table, opened.schema_arrow.names):
                return None
        records = table.to_pylist()
    except (pa.ArrowException, ValueError, OSError):  # ValueError: bytes that are no text
        return None
    return [Row(**record) for record in records] or None


def is_bounded(file: pq.FileMetaData) -> bool:
    """Whether a file of rows holds no more of them than there can be."""
    unpacked = sum(file.row_group(i).total_byte_size for i in range(file.num_row_groups))
    return bool(file.num_rows <= MOST_FILE_ROWS and unpacked <= MOST_UNPACKED)


def is_sound(table: pa.Table, names: Sequence[str], may_lack: bool = False) -> bool:
    """Whether rows say what no row can lack, each column once, in texts that a page can hold.

    Args:
        table: the rows.
        names: of the columns that their file has: one of an earlier version lacks some.
        may_lack: whether the file has rows of several versions, some of which lack columns.
    """
    if len(set(names)) < len(names) or not set(names) >= _ALWAYS:
        return False
    for name in set(names) & set(table.column_names):
        known = SCHEMA.get_field_index(name)
        column = table[name]
        needed = not may_lack and known >= 0 and not SCHEMA.field(known).nullable
        if needed and column.null_count:
            return False
        if pa.types.is_string(column.type) and len(column):
            longest = pc.max(pc.binary_length(column)).as_py() or 0
            if longest > (MOST_TEXT if name in _LONG_TEXTS else MOST_NAME):
                return False
            if pc.any(pc.match_substring_regex(column, f"[{_ACTING}]")).as_py():
                return False
    return True


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
