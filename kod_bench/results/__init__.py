"""Results: the row schema and the Parquet store of a sweep."""

from kod_bench.results.row import (
    COMPARISON_COLUMNS,
    FID_COUNT,
    FORWARD_START,
    TERMINAL_COLUMNS,
    Row,
)
from kod_bench.results.store import (
    REAL_FILE,
    REAL_MAPS_FILE,
    ROW_FILE,
    SCHEMA,
    ReadRows,
    forward_end_file,
    grid_file,
    is_picture,
    maps_file,
    measured_file,
    nearest_file,
    read_rows,
    read_trial,
    trajectory_file,
    write_rows,
)

__all__ = [
    "COMPARISON_COLUMNS",
    "FID_COUNT",
    "FORWARD_START",
    "REAL_FILE",
    "REAL_MAPS_FILE",
    "ROW_FILE",
    "SCHEMA",
    "TERMINAL_COLUMNS",
    "ReadRows",
    "Row",
    "forward_end_file",
    "grid_file",
    "is_picture",
    "maps_file",
    "measured_file",
    "nearest_file",
    "read_rows",
    "read_trial",
    "trajectory_file",
    "write_rows",
]
