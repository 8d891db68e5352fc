"""What a sweep leaves for its reader: its report in several formats, and the sheet of samples."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kod_bench.atomic import atomic_write
from kod_bench.inside import UnreadableError, child, is_file
from kod_bench.reports.content import ReportContent
from kod_bench.reports.latex import to_latex
from kod_bench.reports.markdown import to_markdown
from kod_bench.reports.metrics import OF_ANGLES
from kod_bench.reports.page import write_page
from kod_bench.reports.pictures import Panel, write_contact_sheet
from kod_bench.reports.tables import write_tables
from kod_bench.results import REAL_FILE, REAL_MAPS_FILE, grid_file, maps_file

#: What an older report may have left that a new one does not write again.
_DERIVED = (
    *("figures/*.svg", "figures/*.pdf", "samples.png", "mollweide.png"),
    *("cells.*", "differences.*", "published.*", "trials.*"),
)

#: A sheet of more pictures is not looked at.
MOST_PANELS = 60


@dataclass(frozen=True)
class SweepReport:
    """One sweep's report, or that of several.

    Attributes:
        content: what it says.
        folders: of the sweeps, by ``<space>/<sweep>`` as in the rows; on this machine.
        unreadable: row files that cannot be read.
    """

    content: ReportContent
    folders: dict[str, Path]
    unreadable: tuple[Path, ...] = ()

    def markdown(self) -> str:
        """The report as one Markdown document."""
        return to_markdown(self.content)

    def write(self, folder: Path, paper: bool = True) -> Path:
        """Write ``report.html``, ``comparison.md`` and ``.tex``, tables, figures, picture sheets.

        A folder in that of a sweep is the report's own: what an older report has left there goes,
        so that no figure is older than the table beside it.

        Args:
            folder: where to; it is made.
            paper: whether to draw the figures as SVG and PDF, too, which takes the longest.

        Returns:
            The folder they are in.

        Raises:
            OSError: if it cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if folder.parent in self.folders.values():
            for pattern in _DERIVED:
                for path in folder.glob(pattern):
                    path.unlink(missing_ok=True)
        for name, text in (("comparison.md", self.markdown()), ("comparison.tex", self.latex())):
            with atomic_write(folder / name) as file:
                file.write(text.encode())
        write_tables(self.content, folder)
        if panels := self._panels(REAL_FILE, grid_file):
            write_contact_sheet(folder / "samples.png", panels)
        if panels := self._panels(REAL_MAPS_FILE, maps_file):  # the sphere
            write_contact_sheet(folder / "mollweide.png", panels)
        write_page(self.content, list(self.folders.values()), folder, paper)
        return folder

    def latex(self) -> str:
        """The report as one LaTeX document."""
        return to_latex(self.content)

    def _panels(self, real: str, file_of: Callable[[str, str, int], str]) -> list[Panel]:
        """Real images, then a row of pictures per number of evaluations, at each lowest seed."""
        way = ["model", "prior", "sampler", "steps", "network_evaluations"]
        rows = self.content.rows
        names = rows["space"].astype(str) + "/" + rows["sweep"].astype(str)
        of_angles = rows[OF_ANGLES].notna()
        rows = rows.assign(sweep=names, of_angles=of_angles).sort_values("seed", kind="stable")
        rows = rows.drop_duplicates(["sweep", *way])
        rows = rows[rows["sweep"].isin(self.folders)].sort_values(way, kind="stable")
        evaluations = sorted(rows["network_evaluations"].unique())
        # A column per model, prior and sampler; a second one where two T meet at one number.
        columns: dict[tuple[object, ...], int] = {}
        taken: set[tuple[int, int]] = set()
        panels = [
            Panel("real, held out", path / real, 0, 0, bool(of_angles[names == name].any()))
            for name, path in itertools.islice(self.folders.items(), 1)
        ]
        priors = rows.groupby("model", observed=True)["prior"].nunique().to_dict()
        for row in rows.to_dict("records"):
            line = evaluations.index(row["network_evaluations"])
            for again in itertools.count():
                place = (row["sweep"], row["model"], row["prior"], row["sampler"], again)
                column = columns.setdefault(place, 1 + len(columns))
                if (line, column) not in taken:
                    break
            taken.add((line, column))
            title = _panel_title(row, priors[row["model"]] > 1)
            name = file_of(row["prior"], row["sampler"], int(row["network_evaluations"]))
            try:
                path = child(self.folders[row["sweep"]] / "trials", row["trial"], name)
            except UnreadableError:  # a row's texts are no path to follow
                continue
            panels.append(Panel(title, path, line, column, row["of_angles"]))
            if len(panels) > MOST_PANELS:
                break
        return [panel for panel in panels if is_file(panel.path)]


def _panel_title(row: Mapping[Any, Any], several_priors: bool) -> str:
    how = f"{row['prior']}, {row['sampler']}" if several_priors else row["sampler"]
    evaluations = row["network_evaluations"]
    skipped = f" of T = {row['steps']}" if row["steps"] != evaluations else ""
    return f"{row['model']}, {how} {evaluations}{skipped}"
