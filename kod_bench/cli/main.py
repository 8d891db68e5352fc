"""``kod-bench``: every heavy import is inside the command that needs it, so that help is instant.

Exit status: 0 all trials done, 1 some failed, 2 wrong use, 130 interrupted.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

import kod_bench
from kod_bench.cli.complete import complete_profiles
from kod_bench.cli.data import data_app
from kod_bench.cli.evaluate import evaluate
from kod_bench.cli.options import DEFAULT_RESULTS, Changes, ResultsDir, SpaceName, SweepName
from kod_bench.cli.report import compare, make_report, report, warn_unreadable
from kod_bench.cli.say import Commands, Warnings, echo
from kod_bench.cli.spaces import spaces_app
from kod_bench.errors import UsageError, one_line
from kod_bench.inside import UnreadableError
from kod_bench.storage import Location, parse_location

if TYPE_CHECKING:
    from kod_bench.reports import SweepReport
    from kod_bench.sweeps.display.board import Output
    from kod_bench.sweeps.plan.sweep import Sweep
    from kod_bench.sweeps.space import SearchSpace

app = typer.Typer(
    name="kod-bench",
    cls=Commands,
    help="Sweeps, trains, scores and compares structured diffusion models on Ray.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(data_app)
app.add_typer(spaces_app)

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
Quiet = Annotated[
    bool, typer.Option("--quiet", help="Print only the summary at the end, and errors.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print events for other programs, one JSON per line.")
]
#: A status has at most so many lines of trials.
MOST_SHOWN = 100


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


@app.command()
def sweep(
    space: SpaceName,
    profile: Annotated[
        str,
        typer.Option(
            help="auto, or a profile of the search space: laptop, cluster.",
            autocompletion=complete_profiles,
        ),
    ] = "auto",
    data_dir: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|URI",
            help="Folder, zip or tar of images, or a zip or tar at s3:// or gs://; "
            "default: $KOD_BENCH_DATA, else built-in ones.",
        ),
    ] = None,
    results_dir: ResultsDir = DEFAULT_RESULTS,
    seeds: Annotated[
        str | None, typer.Option(help="Training seeds in place of the space's, e.g. 0,1.")
    ] = None,
    address: Address = None,
    wait_for_nodes: WaitForNodes = 0.0,
    changes: Changes = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the trials and what they would cost; run none.")
    ] = False,
    timing: Annotated[
        bool,
        typer.Option(help="In a dry run, time a few real steps to estimate the cost."),
    ] = True,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Run a search space: train and score every model at every step count and seed."""
    chosen = None if seeds is None else _parse_seeds(seeds)
    if dry_run and address is not None:
        raise UsageError("--dry-run looks at this machine; leave out --address")
    output = _output(quiet, json)
    if address is not None and _is_client(address):
        given = data_dir or os.environ.get("KOD_BENCH_DATA")
        options = ["--profile", profile, "--wait-for-nodes", str(wait_for_nodes)]
        options += ["--data-dir", given] if given else []
        options += ["--seeds", seeds] if seeds else []
        options += [word for change in changes or [] for word in ("--set", change)]
        _run_there(address, ["sweep"], space, options, results_dir, given, output)
    from kod_bench.data import default_data_dir
    from kod_bench.sweeps.session import open_space, prepare_sweep

    folder = parse_location(data_dir) if data_dir else default_data_dir()
    if dry_run:
        found = open_space(
            space,
            profile=profile,
            seeds=chosen,
            changes=changes or [],
            address=None,
            say=_say(output),
        )
        _dry_run(found, folder, timing, output)
        return
    prepared = prepare_sweep(
        space,
        profile=profile,
        data_dir=folder,
        results_dir=parse_location(results_dir),
        seeds=chosen,
        changes=changes or [],
        address=address,
        say=_say(output),
    )
    _run(prepared, address, wait_for_nodes, output)


@app.command()
def resume(
    sweep: SweepName = None,
    results_dir: ResultsDir = DEFAULT_RESULTS,
    address: Address = None,
    wait_for_nodes: WaitForNodes = 0.0,
    extractor: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:CLASS", help="Let the sweep import this feature extractor of yours."
        ),
    ] = None,
    data_dir: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Where the images are now; or, of a plan that is not yours, what it may read.",
        ),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Finish a sweep: run what has no result yet, from its checkpoints; recompute nothing."""
    output = _output(quiet, json)
    if address is not None and _is_client(address):
        options = ["--wait-for-nodes", str(wait_for_nodes)]
        options += ["--extractor", extractor] if extractor else []
        options += [word for each in data_dir or [] for word in ("--data-dir", each)]
        chosen = ["resume", *([sweep] if sweep else [])]
        _run_there(address, chosen, None, options, results_dir, None, output)
    from kod_bench.sweeps.plan.frozen import edited_space
    from kod_bench.sweeps.plan.make import current_code
    from kod_bench.sweeps.store.find import find_sweep
    from kod_bench.sweeps.store.ownership import is_own
    from kod_bench.sweeps.store.trust import check_trusted, with_confirmed_data

    found = find_sweep(sweep, parse_location(results_dir))
    check_trusted(found, extractor)
    found = with_confirmed_data(found, [_absolute(parse_location(each)) for each in data_dir or []])
    _say(output)(f"resuming {found.shown}")
    if found.code != current_code():
        echo(
            f"warning: the sweep was planned by code {found.code}, this is {current_code()}; "
            "its rows say which one made them",
            err=True,
        )
    # Of a stranger's plan, not even whether the file that it names is there.
    if is_own(found) and (edited := edited_space(found)) is not None:
        echo(
            f"warning: {edited} has changed since this sweep was planned; the plan in sweep.yaml "
            "is what runs (for the changed one: kod-bench sweep)",
            err=True,
        )
    _run(found, address, wait_for_nodes, output)


def _absolute(location: Location) -> Location:
    return location.expanduser().absolute() if isinstance(location, Path) else location


@app.command()
def status(sweep: SweepName = None, results_dir: ResultsDir = DEFAULT_RESULTS) -> None:
    """Show what a sweep has done, is doing and has left."""
    from rich.console import Console

    from kod_bench.sweeps.display.board import most_active, trial_table
    from kod_bench.sweeps.display.status import is_running, read_details, trial_views
    from kod_bench.sweeps.store.find import find_sweep

    found = find_sweep(sweep, parse_location(results_dir))
    views = trial_views(found)
    shown = most_active(views, MOST_SHOWN)
    failed = [view for view in views if view.state == "failed"]
    read_details(found, [*shown, *failed[:MOST_SHOWN]])
    states = [view.state for view in views]  # a row that was looked at may turn out damaged
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    running = is_running(found)
    if to_come := found.total - len(views):
        counts += f"{', ' if counts else ''}{to_come} not chosen yet"
    echo(f"{found.shown}: {'running' if running else 'not running'}; {counts}")
    Console().print(trial_table(shown))
    if len(shown) < len(views):
        echo(f"... and {len(views) - len(shown)} more")
    for view in failed[:MOST_SHOWN]:
        echo(f"failed {view.trial.id}: {view.reason}")
    if len(failed) > MOST_SHOWN:
        echo(f"... and {len(failed) - MOST_SHOWN} more failed")
    if not running and (set(states) != {"done"} or to_come):
        echo(f"continue with: {found.resume_command}")


app.command()(report)
app.command()(compare)
app.command()(evaluate)


def _dry_run(
    space: "SearchSpace", data_dir: Location | None, timing: bool, output: "Output"
) -> None:
    from rich.console import Console

    from kod_bench.sweeps.cost.dry_run import dry_run
    from kod_bench.sweeps.display.board import event_line

    found = dry_run(space, data_dir=data_dir, timing=timing, say=_say(output))
    if output == "json":
        echo(event_line("dry-run", **found.event()))
        return
    Console().print(found.table)
    for line in found.lines:
        echo(line)


def _is_client(address: str) -> bool:
    """Whether an address is one of Ray's client, which is outside of its cluster."""
    return address.startswith("ray://")


def _output(quiet: bool, json: bool) -> "Output":
    if quiet and json:
        raise UsageError("--quiet and --json: choose one of them")
    return "quiet" if quiet else "json" if json else "auto"


def _say(output: "Output") -> Callable[[str], None]:
    """Where lines go that are neither result nor error: JSON readers want only JSON on stdout."""
    if output == "quiet":
        return lambda _: None
    return partial(echo, err=output == "json")


def _run_there(
    address: str,
    command: list[str],
    space: str | None,
    options: list[str],
    results_dir: str,
    data_dir: str | None,
    output: "Output",
) -> NoReturn:
    """Run the command on the cluster, whose client alone is here, and end as it does."""
    from kod_bench.sweeps.cluster.remote_driver import SPACE, check_shared, run_there
    from kod_bench.sweeps.space import find_space

    check_shared("--results-dir", results_dir)
    if data_dir:
        check_shared("--data-dir", data_dir)
    arguments = [*command, *([SPACE] if space else []), "--address", "auto", *options]
    arguments += ["--results-dir", results_dir]
    arguments += [] if output == "auto" else [f"--{output}"]
    found = find_space(space) if space else None
    raise typer.Exit(
        run_there(
            address,
            arguments,
            found,
            lambda text, stream: echo(text, nl=False, err=stream == "err"),
        )
    )


def _run(prepared: "Sweep", address: str | None, wait_for_nodes: float, output: "Output") -> None:
    from kod_bench.sweeps.display.board import make_board
    from kod_bench.sweeps.runner import how_to_resume, run_sweep
    from kod_bench.sweeps.store.mirror import put_report

    board = make_board(prepared.trials, output, prepared.total)
    board.begin(prepared.shown)
    try:
        outcome = run_sweep(prepared, board, address, wait_for_nodes)
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


def _parse_seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {text!r}: must be distinct integers from 0, such as 0,1,2")
    return seeds


def main() -> None:
    """Run the command line; errors a user can mend become one line and exit status 2."""
    process = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            raise KeyboardInterrupt
        os._exit(128 + number)  # a worker forked from here, which is told to end

    logging.getLogger("kod_bench").addHandler(Warnings())
    signal.signal(signal.SIGTERM, interrupt)  # a running sweep has a handler of its own
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


if __name__ == "__main__":
    main()
