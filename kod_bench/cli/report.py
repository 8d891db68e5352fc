"""``kod-bench report`` and ``kod-bench compare``: what rows say, on the terminal and in files."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kod_bench.cli.complete import complete_conditions, complete_sides, complete_sweeps
from kod_bench.cli.options import DEFAULT_RESULTS, ResultsDir, expand_location
from kod_bench.cli.rehearse import show_rehearsal
from kod_bench.cli.say import echo
from kod_bench.errors import UsageError
from kod_bench.storage import is_uri, parse_location

if TYPE_CHECKING:
    import pandas as pd

    from kod_bench.reports import ReadFrame, SweepOrigin, SweepReport
    from kod_bench.sweeps.plan.sweep import Sweep

_log = logging.getLogger(__name__)

#: Of several sweeps, or of some of the rows of one: the sweep's own report has all of its rows.
OTHER_REPORT = Path("report")

#: In a sweep's folder on this machine; to be thrown away at will.
ROW_CACHE = ".rows.parquet"

SweepNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SWEEP]...",
        help="Names or folders of sweeps, or a folder or address of many; default: the newest.",
        autocompletion=complete_sweeps,
    ),
]
Datasets = Annotated[
    list[str] | None,
    typer.Option("--dataset", metavar="NAME", help="Only rows on this data set; repeatable."),
]
Conditions = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Only rows that meet it, e.g. 'model=kuramoto*' or 'steps>=50'; repeatable.",
        autocompletion=complete_conditions,
    ),
]


def report(
    sweeps: SweepNames = None,
    results_dir: ResultsDir = DEFAULT_RESULTS,
    dataset: Datasets = None,
    where: Conditions = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            callback=expand_location,
            help="Where to write; default: the sweep's report folder, or ./report for several "
            "sweeps or some of the rows.",
        ),
    ] = None,
    terminal: Annotated[
        bool, typer.Option("--terminal", help="Print only; write no files.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown in place of terminal tables.")
    ] = False,
) -> None:
    """Compare models: KID and FID per step count, with intervals, differences and origin."""
    from rich.console import Console

    from kod_bench.reports.filters import check_conditions
    from kod_bench.reports.terminal import to_terminal
    from kod_bench.sweeps.store.find import find_sweeps
    from kod_bench.sweeps.store.mirror import put_report

    check_conditions(where or [])
    if output is not None and is_uri(output):
        raise UsageError("--output: must be a folder of this machine, not an address")
    chosen = find_sweeps(sweeps or [], parse_location(results_dir))
    if all(each.rehearsal is not None for each in chosen):
        for each in chosen:
            show_rehearsal(each, "auto")
        return
    for each in chosen:
        if each.rehearsal is not None:
            echo(f"warning: {each.shown} is a rehearsal and is left out", err=True)
    chosen = [each for each in chosen if each.rehearsal is None]
    found = make_report(chosen, dataset or [], where or [])
    warn_unreadable(found.unreadable)
    if found.content.rows.empty:
        shown = ", ".join(sweep.shown for sweep in chosen)
        if found.content.provenance.excluded:
            why = "; ".join(each.reason for each in found.content.provenance.excluded)
            raise UsageError(f"{shown}: no row can be compared ({why})")
        if dataset or where:
            said = [f"--dataset {name}" for name in dataset or []]
            said += [f"--where {condition}" for condition in where or []]
            raise UsageError(f"{shown}: no row meets {' and '.join(said)}")
        if found.unreadable:
            raise UsageError(f"{shown}: no row can be read; kod-bench resume computes them again")
        raise UsageError(f"{shown}: no trial is done yet; see kod-bench status")
    if markdown:
        echo(found.markdown())
    else:
        console = Console()
        for piece in to_terminal(found.content):
            console.print(piece)
    if terminal:
        return
    try:
        if output is None and len(chosen) == 1 and not (dataset or where):
            folder = put_report(chosen[0], found.write(chosen[0].folder / "report"))
        else:
            folder = str(found.write(Path(output) if output else OTHER_REPORT))
        written = f"written to {folder}"
    except OSError as error:
        written = f"warning: not written ({error})"
    echo(written, err=True)


def compare(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A", help="A sweep, or a model of one.", autocompletion=complete_sides
        ),
    ],
    second: Annotated[
        str,
        typer.Argument(
            metavar="B", help="A sweep, a model, or 'published'.", autocompletion=complete_sides
        ),
    ],
    sweep: Annotated[
        str | None,
        typer.Option(
            help="Of the models, a name or folder; default: the newest.",
            autocompletion=complete_sweeps,
        ),
    ] = None,
    results_dir: ResultsDir = DEFAULT_RESULTS,
    dataset: Datasets = None,
    where: Conditions = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown in place of terminal tables.")
    ] = False,
) -> None:
    """Compare two sweeps or two models, A minus B on shared seeds; or set A beside `published`."""
    from rich.console import Console

    from kod_bench.reports.comparison import PUBLISHED, compare_sides, compare_with_published
    from kod_bench.reports.filters import check_conditions, filter_rows
    from kod_bench.reports.markdown import comparison_markdown
    from kod_bench.reports.terminal import comparison_terminal

    check_conditions(where or [])
    if first == PUBLISHED:
        raise UsageError(f"compare {first} {second}: {PUBLISHED!r} comes second")
    sides = [
        filter_rows(_side(name, sweep, results_dir), dataset or [], where or [])
        for name in (first, second)
        if name != PUBLISHED
    ]
    for name, rows in zip((first, second), sides, strict=False):
        if rows.empty:
            raise UsageError(f"{name}: has no rows here")
    found = (
        compare_with_published(first, sides[0])
        if second == PUBLISHED
        else compare_sides(first, sides[0], second, sides[1])
    )
    if markdown:
        echo(comparison_markdown(found))
        return
    console = Console()
    for piece in comparison_terminal(found):
        console.print(piece)


def _side(name: str, sweep: str | None, results_dir: str) -> "pd.DataFrame":
    """Rows of a sweep, or of a model of one; with a sweep given, the model comes first."""
    from kod_bench.reports.content import base_model
    from kod_bench.sweeps.store.find import NoSuchSweepError, find_sweep

    location = parse_location(results_dir)
    if sweep is not None:
        within = find_sweep(sweep, location)
        if (rows := _of_model(name, within)) is not None:
            return rows
    try:
        found = find_sweep(name, location)
    except NoSuchSweepError:
        within = find_sweep(sweep, location)
        if (rows := _of_model(name, within)) is not None:
            return rows
        known = sorted({base_model(each) for each in _rows(within)["model"].dropna()})
        raise UsageError(
            f"{name!r} is no sweep in {results_dir}, and no model of {within.shown} (models "
            f"with rows: {', '.join(known) or 'none'})"
        ) from None
    return _rows(found)


def _rows(sweep: "Sweep") -> "pd.DataFrame":
    """A sweep's rows; those that cannot be read are named.

    Raises:
        UsageError: if it is a rehearsal.
    """
    if sweep.rehearsal is not None:
        raise UsageError(f"{sweep.shown}: is a rehearsal, whose rows are no results")
    frame = read_sweep(sweep)[0]
    warn_unreadable(frame.unreadable)
    return frame.rows


def _of_model(name: str, sweep: "Sweep") -> "pd.DataFrame | None":
    """Rows of a model of a sweep; None if it has none of that name."""
    from kod_bench.reports.content import base_model

    rows = _rows(sweep)
    models = rows["model"].astype(object)
    chosen = (models == name).to_numpy(dtype=bool)
    if not chosen.any():  # all points of a grid or search
        chosen = models.map(base_model, na_action="ignore").eq(name).to_numpy(dtype=bool)
    return rows[chosen].reset_index(drop=True) if chosen.any() else None


def make_report(
    sweeps: Sequence["Sweep"], datasets: Sequence[str] = (), conditions: Sequence[str] = ()
) -> "SweepReport":
    """The report of the rows of sweeps.

    Raises:
        UsageError: if a filter names what is not there.
    """
    from kod_bench.reports import SweepReport, combine, make_content
    from kod_bench.reports.filters import filter_rows
    from kod_bench.sweeps.store.mirror import fetch_pictures

    for sweep in sweeps:
        try:
            fetch_pictures(sweep)
        except OSError as error:
            echo(f"warning: not all pictures could be fetched ({error})", err=True)
    read = [read_sweep(sweep) for sweep in sweeps]
    frame = combine([rows for rows, _ in read])
    content = make_content(
        filter_rows(frame.rows, datasets, conditions),
        title=_title(sweeps),
        sweeps=[origin for _, origin in read],
        configurations=frame.configurations,
    )
    folders = {f"{sweep.space}/{sweep.name}": sweep.folder for sweep in sweeps}
    return SweepReport(content, folders, tuple(frame.unreadable))


def warn_unreadable(paths: Sequence[Path]) -> None:
    """Name row files that cannot be read, on standard error."""
    for path in paths:
        _log.warning("%s cannot be read; resume computes it again", path)  # each is said once


def _title(sweeps: Sequence["Sweep"]) -> str:
    if len(sweeps) == 1:
        return f"{sweeps[0].space}, profile {sweeps[0].profile}"
    return f"{len(sweeps)} sweeps of {', '.join(sorted({sweep.space for sweep in sweeps}))}"


def read_sweep(sweep: "Sweep") -> tuple["ReadFrame", "SweepOrigin"]:
    """A sweep's rows, of the trials of its plan, and what else there is to say of it."""
    from kod_bench.inside import MOST_DOCUMENT, is_there, read_bytes
    from kod_bench.reports import SweepOrigin, read_cached
    from kod_bench.results import ROW_FILE
    from kod_bench.sweeps.plan.failures import ERROR_FILE, read_error
    from kod_bench.sweeps.plan.sweep import SWEEP_FILE
    from kod_bench.sweeps.store.mirror import fetch_outcomes

    fetch_outcomes(sweep)
    paths, failures = [], []
    for trial in sweep.trials:
        folder = sweep.trial_folder(trial)
        if is_there(folder / ROW_FILE):
            paths.append(folder / ROW_FILE)
        elif is_there(folder / ERROR_FILE):
            failures.append((trial.id, read_error(folder) or "not recorded"))
    frame = read_cached(paths, sweep.folder / ROW_CACHE)
    document = read_bytes(sweep.folder / SWEEP_FILE, MOST_DOCUMENT)
    return frame, SweepOrigin(
        name=f"{sweep.space}/{sweep.name}",
        location=sweep.name,
        profile=sweep.profile,
        planned=len(sweep.trials),
        document=document.decode(errors="replace"),
        document_hash=hashlib.sha256(document).hexdigest()[:12],
        failures=tuple(failures),
        unreadable=tuple(path.parent.name for path in frame.unreadable),
    )
