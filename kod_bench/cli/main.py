"""``kod-bench``: every heavy import is inside the command that needs it, so that help is instant.

Exit status: 0 all trials done, 1 some failed, 2 wrong use, 130 interrupted.
"""

import logging
import os
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

import kod_bench
from kod_bench.cli.data import data_app
from kod_bench.cli.evaluate import evaluate
from kod_bench.cli.export import export
from kod_bench.cli.report import compare, report
from kod_bench.cli.rescore import rescore
from kod_bench.cli.sample import sample
from kod_bench.cli.say import Commands, Warnings, echo
from kod_bench.cli.spaces import spaces_app
from kod_bench.cli.status import status
from kod_bench.cli.sweep import resume, sweep
from kod_bench.cli.terminal import print_anything
from kod_bench.errors import UsageError, one_line
from kod_bench.hangup import Echoes, asks_to_stop, leave_terminal
from kod_bench.inside import UnreadableError

app = typer.Typer(
    name="kod-bench",
    cls=Commands,
    help="Sweeps, trains, scores and compares structured diffusion models on Ray.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(data_app)
app.add_typer(spaces_app)


def _version(wanted: bool) -> None:
    if wanted:
        echo(f"kod-bench {kod_bench.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if debug:
        os.environ["KOD_BENCH_DEBUG"] = "1"


app.command()(sweep)
app.command()(resume)
app.command()(rescore)
app.command()(status)
app.command()(report)
app.command()(compare)
app.command()(evaluate)
app.command()(sample)
app.command()(export)


def main() -> None:
    """Run the command line; errors a user can mend become one line and exit status 2."""
    print_anything()
    process, echoes = os.getpid(), Echoes()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            leave_terminal(number)
            if not echoes.is_one(number):  # which would end the tidying that the first began
                raise KeyboardInterrupt
            return
        os._exit(128 + number)  # a worker forked from here, which is told to end

    warnings = Warnings()
    logging.getLogger("kod_bench").addHandler(warnings)
    for each in {*asks_to_stop()} - {signal.SIGINT}:  # Python has one for that
        signal.signal(each, interrupt)  # a running sweep has a handler of its own
    try:
        app(prog_name="kod-bench")  # however it was started: completion goes by the name
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("KOD_BENCH_DEBUG"):
            raise
        if isinstance(error, UsageError | UnreadableError):
            echo(f"error: {error}", err=True)
            sys.exit(2)
        echo(
            f"error: {type(error).__name__}: {one_line(error)} (kod-bench --debug ... shows where)",
            err=True,
        )
        sys.exit(1)
    finally:
        logging.getLogger("kod_bench").removeHandler(warnings)


if __name__ == "__main__":
    main()
