"""Results: the row schema and the Parquet store of a sweep."""

from kod_bench.results.row import TERMINAL_COLUMNS, Row
from kod_bench.results.store import GRID_FILE, REAL_FILE, ReadRows, read_row, read_rows, write_row

__all__ = [
    "GRID_FILE",
    "REAL_FILE",
    "TERMINAL_COLUMNS",
    "ReadRows",
    "Row",
    "read_row",
    "read_rows",
    "write_row",
]
