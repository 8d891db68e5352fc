"""From a report's content to ``report.html``, and its figures as files for papers."""

import base64
import contextlib
import functools
import gzip
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kod_bench.atomic import atomic_write
from kod_bench.reports.content import Group, ReportContent
from kod_bench.reports.figures import (
    TrialFiles,
    content_figures,
    plotly_figure,
    trial_figures,
    write_paper_figures,
)
from kod_bench.reports.figures.chart import Figure
from kod_bench.reports.layout import (
    DIFFERENCES_NOTE,
    PUBLISHED_NOTE,
    PUBLISHED_TITLE,
    TableText,
    comparison_table,
    difference_tables,
    one_line,
    published_table,
)
from kod_bench.reports.metrics import METRICS
from kod_bench.reports.page.embedded import Budget, GroupPictures, group_pictures

#: A page that is sent by mail and opened on a phone.
MOST_BYTES = 8_000_000

#: For the elements around pictures.
_PICTURE_MARKUP = 100_000

#: Groups beyond these have no figures: a page of a hundred comparable sets is not read.
_MOST_FIGURED = 12
_MOST_CONFIGURATIONS = 50


@dataclass(frozen=True)
class _Section:
    """A group, as the template lays it out."""

    group: Group
    table: TableText
    differences: tuple[tuple[str, TableText], ...]
    figures: tuple[Figure, ...]
    pictures: GroupPictures


def write_page(
    content: ReportContent, folders: Sequence[Path], folder: Path, paper: bool = True
) -> Path:
    """Write ``report.html``, and ``figures/*.svg`` and ``*.pdf`` beside it.

    Args:
        content: what to say.
        folders: of sweeps on this machine, where trials have left pictures and histories.
        folder: where to write.
        paper: whether to write the figures for papers, too.

    Returns:
        The page.

    Raises:
        OSError: if it cannot be written.
    """
    sections, text = _page(content, folders)
    path = folder / "report.html"
    with atomic_write(path) as file:
        file.write(text)
    if paper:
        for number, section in enumerate(sections, 1):
            prefix = f"{number}-" if len(sections) > 1 else ""
            write_paper_figures(folder / "figures", section.figures, prefix)
    return path


def page(content: ReportContent, folders: Sequence[Path] = ()) -> str:
    """The page's text; see `write_page`."""
    return _page(content, folders)[1].decode()


def _page(content: ReportContent, folders: Sequence[Path]) -> tuple[list[_Section], bytes]:
    """The groups, and the page, with as many pictures as it has room for beside the text."""
    files = TrialFiles(tuple(folders))
    sections = _sections(content, files)
    budget = Budget(MOST_BYTES - _PICTURE_MARKUP - len(_render(content, sections, 0).encode()))
    sections = [
        replace(section, pictures=group_pictures(section.group, files, budget))
        for section in sections
    ]
    return sections, _render(content, sections, budget.omitted).encode()


def _sections(content: ReportContent, files: TrialFiles) -> list[_Section]:
    """The groups, without pictures."""
    sections = []
    for place, group in enumerate(content.groups):
        figures: list[Figure] = []
        if place < _MOST_FIGURED:
            figures = content_figures(group, content.provenance.configurations)
            figures += trial_figures(group, files)
        sections.append(
            _Section(
                group,
                comparison_table(group),
                tuple(titled for metric in METRICS for titled in difference_tables(group, metric)),
                tuple(figures),
                GroupPictures(""),
            )
        )
    return sections


def _render(content: ReportContent, sections: Sequence[_Section], omitted: int) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["line"] = one_line
    figures = {
        f"figure-{i}-{j}": plotly_figure(figure)
        for i, section in enumerate(sections)
        for j, figure in enumerate(section.figures)
    }
    embedded = _json(figures)
    # Only scripts with this mark run. Not made from the content: who writes hostile names into rows
    # must not be able to know it beforehand.
    nonce = secrets.token_urlsafe(18)
    return environment.get_template("template.html.j2").render(
        content=content,
        provenance=content.provenance,
        configurations=_configurations(content.provenance.configurations),
        sections=sections,
        omitted=omitted,
        published=published_table(content.published) if content.published else None,
        published_title=PUBLISHED_TITLE,
        published_note=PUBLISHED_NOTE,
        differences_note=DIFFERENCES_NOTE,
        style=(here / "style.css").read_text("utf-8"),
        script=(here / "script.js").read_text("utf-8"),
        figures=embedded,
        plotly=_plotly() if figures else "",
        nonce=nonce,
    )


def _configurations(found: Mapping[str, str]) -> list[tuple[str, str]]:
    shown = []
    for key, text in list(found.items())[:_MOST_CONFIGURATIONS]:
        with contextlib.suppress(ValueError, RecursionError):
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        shown.append((key, text))
    return shown


def _json(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@functools.cache
def _plotly() -> str:
    """plotly.js, compressed, in base64: 4.8 MB become 1.9 MB, and browsers since 2023 unpack it."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()
