"""What a sweep leaves for its reader: the comparison table and the sheet of sample grids."""

from pathlib import Path

from kod_bench.errors import UsageError
from kod_bench.reports import ComparisonTable, Panel, compare, write_contact_sheet
from kod_bench.results import ReadRows, Row, read_rows
from kod_bench.sweeps.plan import Sweep
from kod_bench.sweeps.trial import GRID_FILE

REAL_FILE = "real.png"


def read_sweep_rows(sweep: Sweep) -> ReadRows:
    """The rows of a sweep's own trials."""
    found = read_rows(sweep.trials_folder)
    planned = {trial.id for trial in sweep.trials}
    return ReadRows([row for row in found.rows if row.trial in planned], found.unreadable)


def write_report(sweep: Sweep) -> tuple[list[ComparisonTable], Path]:
    """Write ``report/comparison.md`` and ``report/samples.png``.

    Returns:
        The tables, and the folder they were written to.

    Raises:
        UsageError: if the folder cannot be written.
    """
    rows = read_sweep_rows(sweep).rows
    tables = compare(rows)
    folder = sweep.folder / "report"
    try:
        folder.mkdir(exist_ok=True)
        temporary = folder / ".comparison.md.tmp"
        temporary.write_text(markdown(sweep, tables), encoding="utf-8")
        temporary.replace(folder / "comparison.md")
        if panels := _panels(sweep, rows):
            write_contact_sheet(folder / "samples.png", panels)
    except OSError as error:
        raise UsageError(f"{folder}: the report cannot be written ({error.strerror})") from error
    return tables, folder


def markdown(sweep: Sweep, tables: list[ComparisonTable]) -> str:
    """All tables as one Markdown document."""
    done = sum(entry.kid.count for table in tables for entry in table.entries if entry.steps)
    head = f"# {sweep.space}: {done} of {len(sweep.trials)} trials"
    lead = f"Sweep `{sweep.name}`, profile `{sweep.profile}`."
    return "\n".join([head, "", lead, "", *(table.markdown() for table in tables)])


def _panels(sweep: Sweep, rows: list[Row]) -> list[Panel]:
    """Real images, then a row of grids per step count, at the lowest seed of each model."""
    models = list(dict.fromkeys(trial.model for trial in sweep.trials))
    steps = sorted({trial.steps for trial in sweep.trials})
    shown: dict[tuple[str, int], Row] = {}
    for row in sorted(rows, key=lambda row: row.seed):
        shown.setdefault((row.model, row.steps), row)
    panels = [
        Panel(
            f"{row.model}, T = {row.steps}, seed {row.seed}",
            sweep.trials_folder / row.trial / GRID_FILE,
            steps.index(row.steps),
            1 + models.index(row.model),
        )
        for row in shown.values()
    ]
    panels = [panel for panel in panels if panel.path.is_file()]
    real = sweep.folder / REAL_FILE
    return [Panel("real, held out", real, 0, 0), *panels] if real.is_file() else panels
