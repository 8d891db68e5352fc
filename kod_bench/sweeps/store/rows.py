"""The rows of a trial where they lie, on a disk or an object store."""

from pathlib import Path

from kod_bench.results import ROW_FILE, Row, parse_rows, read_trial
from kod_bench.storage import Location


def rows_at(place: Location) -> list[Row] | None:
    """The rows in a trial's folder; None if there are none, or none that can be read.

    Raises:
        OSError: if the store cannot be reached.
    """
    if isinstance(place, Path):
        return read_trial(place)
    try:
        return parse_rows(place.read(ROW_FILE))
    except FileNotFoundError:
        return None
