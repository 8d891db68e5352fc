"""A report for a terminal."""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kod_bench.reports.comparison import Comparison
from kod_bench.reports.content import Group, PublishedNumber, ReportContent
from kod_bench.reports.layout import (
    PUBLISHED_NOTE,
    PUBLISHED_TITLE,
    TableText,
    comparison_table,
    difference_table,
    difference_tables,
    one_line,
    published_table,
)
from kod_bench.reports.metrics import METRICS, heading_of, is_judged

#: Models' names up to this width are not broken for the sake of other columns.
_NAME_WIDTH = 15

_PUBLISHED_COLUMNS = ("Data", "T", "Model", "Metric", "Value")


def to_terminal(content: ReportContent) -> Iterator[RenderableType]:
    """The report, piece by piece; provenance only where it needs attention."""
    yield Text(one_line(f"{content.title}: {content.summary}"))
    yield Text()
    for group in content.groups:
        yield comparison(group)
        yield Text()
        yield from _lines(group.verdict)
        for metric in METRICS:
            for title, table in difference_tables(group, metric):
                if is_judged(metric, group.metrics):
                    yield Text()
                    yield _rich(table, title, ())
        yield Text()
    yield from _published(content.published)
    yield from _lines(content.provenance.statements)


def comparison_terminal(found: Comparison) -> Iterator[RenderableType]:
    """Two sides that somebody chose."""
    for each in found.groups:
        metrics = {line.metric for line in each.differences}
        for metric in METRICS:
            table = difference_table(each.differences, metric)
            if table.lines:
                heading = heading_of(metric, metrics)
                title = f"{each.title}: {found.first} minus {found.second}, {heading}"
                yield _rich(table, title, ())
                yield Text()
        yield from _lines(each.verdict)
    for group in found.tables:
        yield comparison(group)
        yield Text()
    yield from _published(found.published)
    yield from _lines(found.notes)


def _published(numbers: Sequence[PublishedNumber]) -> Iterator[RenderableType]:
    if numbers:
        table = _only(published_table(numbers), _PUBLISHED_COLUMNS)
        yield _rich(table, PUBLISHED_TITLE, (PUBLISHED_NOTE,))
        yield Text()


def comparison(group: Group) -> Table:
    """The comparison table of one group, with its caption and notes below."""
    return _rich(comparison_table(group), group.title, (group.caption, *group.notes))


def _only(table: TableText, columns: tuple[str, ...]) -> TableText:
    places = [table.columns.index(name) for name in columns]
    lines = tuple(tuple(line[place] for place in places) for line in table.lines)
    return TableText(columns, lines, table.left)


def _rich(table: TableText, title: str, caption: tuple[str, ...]) -> Table:
    # Text, never markup: a name in brackets is a name.
    found = Table(
        title=Text(one_line(title)),
        title_justify="left",
        caption=Text("\n".join(map(one_line, caption))) if caption else None,
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    for place, name in enumerate(table.columns):
        # A name that is too long goes on below: cut off, it would name nothing.
        longest = max((len(line[place].text) for line in table.lines), default=0)
        found.add_column(
            Text(name),
            justify="left" if name in table.left else "right",
            overflow="fold",
            no_wrap=name == "Model" and longest <= _NAME_WIDTH,
        )
    for line in table.lines:
        found.add_row(*(Text(one_line(c.text), "bold" if c.bold else "") for c in line))
    return found


def _lines(sentences: tuple[str, ...]) -> Iterator[Text]:
    for sentence in sentences:
        yield Text(one_line(sentence))
