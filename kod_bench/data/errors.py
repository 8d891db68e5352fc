"""The one exception of this package."""

from kod_bench.errors import UsageError


class DataError(UsageError, ValueError):
    """A data set cannot be prepared or read. One line: what, where, what is allowed."""
