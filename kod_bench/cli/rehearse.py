"""`kod-bench sweep --rehearse`: every shape of trial for a few steps, before the sweep starts."""

from typing import TYPE_CHECKING

import typer

from kod_bench.cli.say import echo

if TYPE_CHECKING:
    from kod_bench.storage import Location
    from kod_bench.sweeps.cluster.share import Share
    from kod_bench.sweeps.display.board import Output
    from kod_bench.sweeps.plan.sweep import Sweep
    from kod_bench.sweeps.space import SearchSpace


def rehearse_space(
    space: "SearchSpace",
    data_dir: "Location | None",
    results_dir: "Location",
    address: str | None,
    wait_for_nodes: float,
    output: "Output",
    share: "Share",
) -> None:
    """Plan a rehearsal of a search space, run it, and say what it has found.

    Raises:
        typer.Exit: as from `run_rehearsal`.
    """
    from kod_bench.cli.running import teller
    from kod_bench.sweeps.rehearsal.prepare import prepare_rehearsal

    prepared = prepare_rehearsal(
        space,
        data_dir=data_dir,
        results_dir=results_dir,
        address=address,
        grows=address is not None and wait_for_nodes > 0,
        say=teller(output),
        share=share,
    )
    run_rehearsal(prepared, address, wait_for_nodes, output, share)


def run_rehearsal(
    prepared: "Sweep",
    address: str | None,
    wait_for_nodes: float,
    output: "Output",
    share: "Share",
) -> None:
    """Run a rehearsal: to where its trials are killed, and on from there; say what it has found.

    Raises:
        typer.Exit: with status 1 if something would have failed, 130 if it was stopped.
    """
    from kod_bench.cli.running import telling_how_it_broke_off
    from kod_bench.sweeps.display.board import make_board
    from kod_bench.sweeps.runner import how_to_resume, run_sweep
    from kod_bench.sweeps.trial.rehearsed import KILLED

    board = make_board(prepared.trials, output)
    with telling_how_it_broke_off(prepared, board):
        outcome = run_sweep(prepared, board, address, wait_for_nodes, share)
        killed = [each for each in prepared.trials if outcome.failures.get(each.id) == KILLED]
        if killed and not outcome.stopped:
            board.note(f"resuming {len(killed)} trials, as kod-bench resume does")
            for trial in killed:
                board.wait_again(trial)
            outcome = run_sweep(prepared, board, address, wait_for_nodes, share)
    if outcome.stopped:
        board.finished(outcome.failures, stopped=True, report=None)
        echo(f"stopped. {how_to_resume(prepared)}", err=True)
        raise typer.Exit(130)
    would_fail = show_rehearsal(prepared, output)
    board.finished(outcome.failures, stopped=False, report=None)
    if would_fail or outcome.failures:
        raise typer.Exit(1)


def show_rehearsal(sweep: "Sweep", output: "Output") -> bool:
    """Print what a rehearsal has found; whether something would have failed."""
    from rich.console import Console

    from kod_bench.sweeps.display.board import event_line
    from kod_bench.sweeps.rehearsal.verdict import judge_rehearsal

    found = judge_rehearsal(sweep)
    if output == "json":
        echo(event_line("rehearsal", **found.event()))
        return bool(found.would_fail)
    console = Console()
    console.print(found.table)
    for line in found.lines:
        console.print(line, highlight=False, markup=False)
    echo(f"a rehearsal, in {sweep.shown}: its rows are no results; it can be removed")
    return bool(found.would_fail)
