"""Output on terminals that do not have every character, such as those of Latin-1."""

import codecs
import contextlib
import sys
from typing import Any

_PLAIN = {"\N{HORIZONTAL ELLIPSIS}": "..."}


def print_anything() -> None:
    """From now on a character that the terminal lacks is printed as its number, and ends nothing.

    A model may have any name, and Rich shortens with an ellipsis of one character.
    """
    codecs.register_error("kod_bench.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        # Not the streams of tests and notebooks, which take every character anyway.
        with contextlib.suppress(AttributeError, ValueError):
            if getattr(stream, "errors", None) in ("strict", "backslashreplace"):
                stream.reconfigure(errors="kod_bench.plain")  # type: ignore[union-attr]


def _plain(error: UnicodeError) -> Any:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    plain = (_PLAIN.get(c, c.encode("ascii", "backslashreplace").decode()) for c in missing)
    return "".join(plain), error.end
