"""What a sweep leaves for its reader: the comparison table and the sheet of sample grids."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kod_bench.atomic import atomic_write
from kod_bench.reports.comparison import ComparisonTable, compare
from kod_bench.reports.pictures import Panel, write_contact_sheet
from kod_bench.results import (
    REAL_FILE,
    REAL_MAPS_FILE,
    ReadRows,
    Row,
    grid_file,
    maps_file,
    read_rows,
)


@dataclass(frozen=True)
class SweepReport:
    """A sweep's rows, compared.

    Attributes:
        folder: of the sweep.
        title: what was swept, under which profile.
        planned: trial folders' names, in the order of the plan.
        found: the rows of these trials, and row files that cannot be read.
        tables: rows that can be compared share one.
    """

    folder: Path
    title: str
    planned: tuple[str, ...]
    found: ReadRows
    tables: tuple[ComparisonTable, ...]

    @classmethod
    def read(cls, folder: Path, title: str, planned: Sequence[str]) -> "SweepReport":
        """Read the rows of a sweep's planned trials."""
        found = read_rows(folder / "trials")
        known = set(planned)
        rows = [row for row in found.rows if row.trial in known]
        return cls(
            folder,
            title,
            tuple(planned),
            ReadRows(rows, found.unreadable),
            tuple(compare(rows)),
        )

    def markdown(self) -> str:
        """All tables as one Markdown document."""
        done = len({row.trial for row in self.found.rows})
        head = f"# {self.title}: {done} of {len(self.planned)} trials"
        lead = f"Sweep `{self.folder.resolve().name}`."
        return "\n".join([head, "", lead, "", *(table.markdown() for table in self.tables)])

    def write(self) -> Path:
        """Write ``report/comparison.md``, ``samples.png``, and for the sphere ``mollweide.png``.

        Returns:
            The folder they are in.

        Raises:
            OSError: if it cannot be written.
        """
        folder = self.folder / "report"
        folder.mkdir(exist_ok=True)
        with atomic_write(folder / "comparison.md") as file:
            file.write(self.markdown().encode())
        if panels := self._panels(REAL_FILE, grid_file):
            write_contact_sheet(folder / "samples.png", panels)
        if panels := self._panels(REAL_MAPS_FILE, maps_file):
            write_contact_sheet(folder / "mollweide.png", panels)
        return folder

    def _panels(self, real: str, file_of: Callable[[str, str, int], str]) -> list[Panel]:
        """Real images, then a row of pictures per number of evaluations, at each lowest seed."""
        order = {trial: position for position, trial in enumerate(self.planned)}
        rows = sorted(self.found.rows, key=lambda row: (row.seed, order[row.trial]))
        evaluations = sorted({row.network_evaluations for row in rows})
        shown: dict[tuple[str, str, str, int, int], Row] = {}
        for row in rows:
            key = (row.model, row.prior, row.sampler, row.steps, row.network_evaluations)
            shown.setdefault(key, row)
        # A column per model, prior and sampler; a second one where two T meet at one number.
        columns: dict[tuple[str, str, str, int], int] = {}
        taken: set[tuple[int, int]] = set()
        panels = [Panel("real, held out", self.folder / real, 0, 0)]
        for row in shown.values():
            line = evaluations.index(row.network_evaluations)
            for again in itertools.count():
                place = (row.model, row.prior, row.sampler, again)
                column = columns.setdefault(place, 1 + len(columns))
                if (line, column) not in taken:
                    break
            taken.add((line, column))
            skipped = row.steps != row.network_evaluations
            several = len({other.prior for other in shown.values() if other.model == row.model}) > 1
            how = f"{row.prior}, {row.sampler}" if several else row.sampler
            title = f"{row.model}, {how} {row.network_evaluations}"
            path = self.folder / "trials" / row.trial
            panels.append(
                Panel(
                    title + (f" of T = {row.steps}" if skipped else ""),
                    path / file_of(row.prior, row.sampler, row.network_evaluations),
                    line,
                    column,
                )
            )
        return [panel for panel in panels if panel.path.is_file()]
