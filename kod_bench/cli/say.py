"""What commands print: lines with nothing in them that acts on a terminal."""

import contextlib
import logging
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from kod_bench.visible import visible


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text that may quote files."""
    typer.echo(visible(text), err=err, nl=nl)


class Commands(TyperGroup):
    """A group whose errors of wrong use quote no credentials of an address in the wrong place."""

    def invoke(self, ctx: Any) -> Any:
        """As usual."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if isinstance(message := getattr(error, "message", None), str):
                with contextlib.suppress(AttributeError):
                    error.message = visible(message)  # type: ignore[attr-defined]
            raise


class Warnings(logging.Handler):
    """Shows what the package warns of as a line on standard error, each once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message; a closed terminal ends nothing."""
        line = " ".join(record.getMessage().split())
        if line not in self._said and not sys.stderr.closed:
            self._said.add(line)
            echo(f"warning: {line}", err=True)
