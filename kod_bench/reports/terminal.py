"""A report for a terminal."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from kod_bench.reports.comparison import Comparison
from kod_bench.reports.content import Group, PublishedNumber, ReportContent
from kod_bench.reports.layout import (
    PUBLISHED_NOTE,
    PUBLISHED_TITLE,
    CellText,
    TableText,
    comparison_table,
    difference_table,
    difference_tables,
    one_line,
    published_table,
)
from kod_bench.reports.metrics import METRICS, heading_of, is_judged

#: Models' names up to this width, and their words up to that, are not broken to make room for
#: other columns.
_NAME_WIDTH, _WORD_WIDTH = 15, 20
#: What a comparison has beside metrics: a narrow terminal has the first ones, and then the last
#: ones if all metrics fit.
_NAMES, _SECONDS = ("NFE", "Model"), ("Train s", "s/image")

#: A mean, the ends of its interval, and the mark of what is told to be no worse than the best.
_INTERVAL = re.compile(r"(\S+) (\[\S+, \S+\])( \S+)?")

_PUBLISHED_COLUMNS = ("Data", "T", "Model", "Metric", "Value")


def to_terminal(content: ReportContent) -> Iterator[RenderableType]:
    """The report, piece by piece; provenance only where it needs attention."""
    yield Text(one_line(f"{content.title}: {content.summary}"))
    yield Text()
    for group in content.groups:
        yield comparison(group)
        yield Text()
        yield from _lines(group.verdict)
        yield from _differences(group)
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


def comparison(group: Group) -> RenderableType:
    """The comparison table of one group, with its caption and notes below."""
    return _Fitting(comparison_table(group), group.title, (group.caption, *group.notes))


def _differences(group: Group) -> Iterator[RenderableType]:
    """Those in the headline; of other metrics the verdict has said what there is to say."""
    for title, table in difference_tables(group, group.headline):
        yield Text()
        yield _rich(table, title, ())
    others = [
        heading_of(metric, group.metrics)
        for metric in METRICS
        if metric != group.headline
        and is_judged(metric, group.metrics)
        and difference_tables(group, metric)
    ]
    if others:
        yield Text()
        yield Text(f"Differences in {', '.join(others)}: with --markdown, and in the report.")


@dataclass(frozen=True)
class _Fitting:
    """A comparison table with as many columns as fit, and a line that names the others."""

    table: TableText
    title: str
    caption: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns, left_out = _fitting(self.table, options.max_width)
        said = f"Not shown here: {', '.join(left_out)}; a wider terminal, --markdown and the report"
        note = (f"{said} have them.",) if left_out else ()
        yield _rich(_only(self.table, columns), self.title, (*self.caption, *note))


def _fitting(table: TableText, width: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Columns that fit, with cells of two lines at most, and the others.

    How a model is called and its first metric stay, come what may; after them come how many seeds
    there are, the other metrics in their order, and seconds.
    """
    metrics = [name for name in table.columns if name not in (*_NAMES, "Seeds", *_SECONDS)]
    wanted = (*_NAMES, *metrics[:1], "Seeds", *metrics[1:], *_SECONDS)
    widths = [_least_width(table, name) + 1 for name in wanted]
    fitting = sum(used <= width + 1 for used in itertools.accumulate(widths))
    kept = set(wanted[: max(fitting, len(_NAMES) + 1)])
    columns = tuple(name for name in table.columns if name in kept)
    return columns, tuple(name for name in table.columns if name not in kept)


def _least_width(table: TableText, name: str) -> int:
    """Below this a column's numbers would be broken, or words of its heading or of names."""
    place = table.columns.index(name)
    texts = [_lines_of(line[place]) for line in table.lines]
    if name == "Model":
        longest = max(map(len, texts), default=0)
        if longest > _NAME_WIDTH:
            texts = [word[:_WORD_WIDTH] for text in texts for word in text.split()]
    return max(len(part) for text in (*texts, *name.split()) for part in text.split("\n"))


def _lines_of(cell: CellText) -> str:
    """A mean, and its interval on a line of its own, where no number is broken by the edge."""
    found = _INTERVAL.fullmatch(one_line(cell.text))
    return one_line(cell.text) if found is None else f"{found[1]}{found[3] or ''}\n{found[2]}"


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
        collapse_padding=True,
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
        found.add_row(*(Text(_lines_of(c), "bold" if c.bold else "") for c in line))
    return found


def _lines(sentences: tuple[str, ...]) -> Iterator[Text]:
    for sentence in sentences:
        yield Text(one_line(sentence))
