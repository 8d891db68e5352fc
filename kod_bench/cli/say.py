"""What commands print: lines with nothing in them that acts on a terminal."""

import logging
import sys

import typer

from kod_bench.visible import visible


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text that may quote files."""
    typer.echo(visible(text), err=err, nl=nl)


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
