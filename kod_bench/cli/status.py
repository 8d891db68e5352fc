"""`kod-bench status`: what a sweep has done, is doing and has left."""

from kod_bench.cli.options import (
    DEFAULT_RESULTS,
    ResultsDir,
    SweepName,
)
from kod_bench.cli.say import echo
from kod_bench.storage import parse_location

#: A status has at most so many lines of trials.
MOST_SHOWN = 100


def status(sweep: SweepName = None, results_dir: ResultsDir = DEFAULT_RESULTS) -> None:
    """Show what a sweep has done, is doing and has left."""
    from rich.console import Console

    from kod_bench.sweeps.display.board import most_active
    from kod_bench.sweeps.display.status import is_running, read_details, trial_views
    from kod_bench.sweeps.display.trial_table import trial_table
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
    what = " (rehearsal)" if found.rehearsal is not None else ""
    echo(f"{found.shown}{what}: {'running' if running else 'not running'}; {counts}")
    console = Console()
    console.print(trial_table(shown, console.width))
    if len(shown) < len(views):
        echo(f"... and {len(views) - len(shown)} more")
    for view in failed[:MOST_SHOWN]:
        echo(f"failed {view.trial.id}: {view.reason}")
    if len(failed) > MOST_SHOWN:
        echo(f"... and {len(failed) - MOST_SHOWN} more failed")
    if not running and (set(states) != {"done"} or to_come):
        echo(f"continue with: {found.resume_command}")
