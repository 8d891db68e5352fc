"""Results: the row schema and the Parquet store of a sweep."""

from kod_bench.results.row import Row
from kod_bench.results.store import ReadRows, read_row, read_rows, write_row

__all__ = ["ReadRows", "Row", "read_row", "read_rows", "write_row"]
