"""What goes wrong with one trained model, in one line for the command line and for Python."""

from kod_bench.errors import UsageError


class ModelError(UsageError, ValueError):
    """A trained model cannot be read, or not be sampled so; the message says what is allowed."""
