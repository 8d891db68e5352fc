"""How a command runs a sweep, here or on a cluster, and what it prints on the way."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from kod_bench.cli.report import make_report, warn_unreadable
from kod_bench.cli.say import echo
from kod_bench.errors import UsageError
from kod_bench.inside import UnreadableError

if TYPE_CHECKING:
    from kod_bench.reports import SweepReport
    from kod_bench.sweeps.cluster.share import Share
    from kod_bench.sweeps.display.board import Board, Output
    from kod_bench.sweeps.plan.sweep import Sweep


Address = Annotated[
    str | None,
    typer.Option(
        help="Running Ray cluster to use ('auto' finds it, ray://HOST:10001 from outside); "
        "default: here."
    ),
]
WaitForNodes = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="With --address: wait so long for an autoscaling cluster to hold a trial.",
    ),
]
Cpus = Annotated[
    int | None,
    typer.Option(
        "--cpus", min=1, metavar="N", help="Take so many CPUs of this machine; default: all."
    ),
]
Gpus = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        min=0,
        metavar="N",
        help="Take so many GPUs of this machine, which no other sweep has; default: all.",
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="Print only the summary at the end, and errors.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print events for other programs, one JSON per line.")
]


def share_of(cpus: int | None, gpus: int | None, address: str | None) -> "Share":
    """The part of this machine that the options `--cpus` and `--gpus` name.

    Raises:
        UsageError: if the sweep is to run elsewhere.
    """
    if address is not None and (cpus is not None or gpus is not None):
        option = "--gpus" if cpus is None else "--cpus"
        raise UsageError(f"{option} is a share of this machine; leave it out with --address")
    from kod_bench.sweeps.cluster.share import Share

    return Share(cpus, gpus)


def is_client(address: str) -> bool:
    """Whether an address is one of Ray's client, which is outside of its cluster."""
    return address.startswith("ray://")


def choose_output(quiet: bool, json: bool) -> "Output":
    """What the options `--quiet` and `--json` ask for.

    Raises:
        UsageError: if they ask for both.
    """
    if quiet and json:
        raise UsageError("--quiet and --json: choose one of them")
    return "quiet" if quiet else "json" if json else "auto"


def teller(output: "Output") -> Callable[[str], None]:
    """Where lines go that are neither result nor error: JSON readers want only JSON on stdout."""
    if output == "quiet":
        return lambda _: None
    return partial(echo, err=output == "json")


def run_there(
    address: str,
    command: list[str],
    space: str | None,
    options: list[str],
    results_dir: str,
    data_dir: str | None,
    output: "Output",
) -> NoReturn:
    """Run the command on the cluster, whose client alone is here, and end as it does."""
    from kod_bench.sweeps.cluster import remote_driver
    from kod_bench.sweeps.space import find_space

    remote_driver.check_shared("--results-dir", results_dir)
    if data_dir:
        remote_driver.check_shared("--data-dir", data_dir)
    arguments = [*command, *([remote_driver.SPACE] if space else []), "--address", "auto", *options]
    arguments += ["--results-dir", results_dir]
    arguments += [] if output == "auto" else [f"--{output}"]
    found = find_space(space) if space else None
    raise typer.Exit(
        remote_driver.run_there(
            address,
            arguments,
            found,
            lambda text, stream: echo(text, nl=False, err=stream == "err"),
        )
    )


@contextlib.contextmanager
def telling_how_it_broke_off(prepared: "Sweep", board: "Board") -> Iterator[None]:
    """Show a board while trials run; if that does not come to its end, say how it goes on.

    Raises:
        typer.Exit: with status 130 if it was interrupted.
    """
    from kod_bench.sweeps.runner import how_to_resume

    board.begin(prepared.shown)
    try:
        yield
    except KeyboardInterrupt:
        board.finished(board.failures, stopped=True, report=None)
        echo(f"\ninterrupted. {how_to_resume(prepared)}", err=True)
        raise typer.Exit(130) from None
    except (UsageError, UnreadableError):
        board.finished(board.failures, stopped=True, report=None)
        raise
    except Exception:
        board.finished(board.failures, stopped=True, report=None)
        echo(f"finished trials are kept. {how_to_resume(prepared)}", err=True)
        raise


def run(
    prepared: "Sweep",
    address: str | None,
    wait_for_nodes: float,
    output: "Output",
    share: "Share",
) -> None:
    """Run a sweep's unfinished trials, write its report, and say how it ended.

    Raises:
        typer.Exit: with status 1 if trials have failed, 130 if it was stopped.
    """
    from kod_bench.sweeps.display.board import make_board
    from kod_bench.sweeps.runner import how_to_resume, run_sweep
    from kod_bench.sweeps.store.mirror import put_report

    board = make_board(prepared.trials, output, prepared.total)
    with telling_how_it_broke_off(prepared, board):
        outcome = run_sweep(prepared, board, address, wait_for_nodes, share)
    if outcome.stopped:
        board.finished(outcome.failures, stopped=True, report=None)
        echo(
            f"stopped: {outcome.done} of {prepared.total} trials are done, those that ran "
            f"have saved where they were. {how_to_resume(prepared)}",
            err=True,
        )
        raise typer.Exit(130)
    prepared = outcome.sweep
    found: SweepReport | None = None
    written: str | None = None
    try:
        found = make_report([prepared])
        written = put_report(prepared, found.write(prepared.folder / "report", paper=False))
    except OSError as error:
        echo(f"warning: the report is not written ({error})", err=True)
    board.finished(outcome.failures, stopped=False, report=written)
    if found is not None:
        warn_unreadable(found.unreadable)
    if output != "json":
        if found is not None:
            echo("\n" + found.markdown())
        if written is not None:
            echo(f"table and pictures: {written}")
        echo(f"rows, grids, histories, checkpoints: {prepared.shown}/trials")
    for trial, reason in outcome.failures.items():
        echo(f"failed {trial}: {reason}", err=True)
    if outcome.failures:
        echo(f"retry with: {prepared.resume_command}", err=True)
        raise typer.Exit(1)
