"""A report for a terminal."""

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
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
from kod_bench.reports.metrics import METRICS, OF_ANGLES, heading_of, headline, is_judged

#: Names up to this width ("real versus real"), and their words up to that, are not broken to make
#: room for other columns.
_NAME_WIDTH, _WORD_WIDTH = 16, 20
_HEADING_WIDTH = 12
#: Columns of names; they go on below.
_NAMES = frozenset({"Model", "minus"})
#: What stays of a comparison however narrow a terminal is, and what goes first.
_FIRST, _SECONDS = ("NFE", "Model"), ("Train s", "s/image")

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
    """Two sides that somebody chose; of angles in their headline alone."""
    for each in found.groups:
        metrics = {line.metric for line in each.differences}
        first = headline(metrics)
        for metric in (first,) if first == OF_ANGLES else METRICS:
            table = difference_table(each.differences, metric, metrics)
            if table.lines:
                heading = heading_of(metric, metrics)
                title = f"{each.title}: {found.first} minus {found.second}, {heading}"
                yield _Fitting(table, title, ())
                yield Text()
        if first == OF_ANGLES:
            yield from _elsewhere(
                [metric for metric in METRICS if metric in metrics - {first}], metrics
            )
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
        yield _Fitting(table, title, ())
    found = {line.metric for line in group.differences} - {group.headline}
    others = [each for each in METRICS if each in found and is_judged(each, group.metrics)]
    if others:
        yield Text()
        yield from _elsewhere(others, group.metrics)


def _elsewhere(metrics: Sequence[str], beside: Collection[str]) -> Iterator[RenderableType]:
    if metrics:
        names = ", ".join(heading_of(metric, beside) for metric in metrics)
        yield Text(f"Differences in {names}: with --markdown.")


@dataclass(frozen=True)
class _Fitting:
    """A table with as many columns as fit, no number broken, and the names of the others."""

    table: TableText
    title: str
    caption: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns, left_out, fits = _fitting(self.table, options.max_width)
        names = ", ".join(left_out)
        said = f"Not shown here: {names}; --markdown has all, a wider terminal more (COLUMNS=160)."
        note = (said,) if left_out else ()
        yield _rich(_only(self.table, columns), self.title, (*self.caption, *note), fits)


def _fitting(table: TableText, width: int) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Columns to show, with cells of two lines at most; the others; and whether the first fit.

    Who is compared and the first number stay, come what may. Then of a comparison come how many
    seeds there are, the other metrics in their order, and seconds; of differences what they say.
    """
    kept: tuple[str, ...] = table.columns[:4]
    rest: tuple[str, ...] = ("Says", "Seeds", "Holm p", "p")
    if "Says" not in table.columns:
        metrics = [x for x in table.columns if x not in (*_FIRST, "Seeds", *_SECONDS)]
        kept, rest = (*_FIRST, *metrics[:1]), ("Seeds", *metrics[1:], *_SECONDS)
    used = itertools.accumulate(_least_width(table, name) + 1 for name in (*kept, *rest))
    fitting = sum(end <= width + 1 for end in used)
    fits = fitting >= len(kept)
    shown = {*kept, *(*kept, *rest)[:fitting]}
    columns = tuple(name for name in table.columns if name in shown)
    return columns, tuple(name for name in table.columns if name not in shown), fits


def _least_width(table: TableText, name: str) -> int:
    """Below this a column's numbers would be broken, or words of its heading or of names."""
    place = table.columns.index(name)
    texts = [_shown(line[place], name in table.left) for line in table.lines]
    heading = _longest(_heading(name).split("\n"))
    if name in _NAMES and _longest(texts) > _NAME_WIDTH:
        return max(min(_WORD_WIDTH, _longest(" ".join(texts).split())), heading)
    return max(_longest(part for text in texts for part in text.split("\n")), heading)


def _heading(name: str) -> str:
    """A long one on lines of its words."""
    return "\n".join(name.split()) if len(name) > _HEADING_WIDTH else name


def _longest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts), default=0)


def _shown(cell: CellText, is_text: bool) -> str:
    """A mean, and its interval on a line of its own; texts, such as names, as they are."""
    text = one_line(cell.text)
    found = None if is_text else _INTERVAL.fullmatch(text)
    return text if found is None else f"{found[1]}{found[3] or ''}\n{found[2]}"


def _only(table: TableText, columns: tuple[str, ...]) -> TableText:
    places = [table.columns.index(name) for name in columns]
    lines = tuple(tuple(line[place] for place in places) for line in table.lines)
    return TableText(columns, lines, table.left)


def _rich(
    table: TableText, title: str, caption: tuple[str, ...], numbers_fit: bool = False
) -> Table:
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
        # What is too long goes on below: cut off, a name would name nothing, and a number would be
        # another one. Where there is room for them, numbers are whole.
        may_break = name in _NAMES or not numbers_fit
        longest = _longest(one_line(line[place].text) for line in table.lines)
        found.add_column(
            Text(_heading(name)),
            justify="left" if name in table.left else "right",
            overflow="fold",
            no_wrap=numbers_fit and (not may_break or (name == "Model" and longest <= _NAME_WIDTH)),
        )
    for line in table.lines:
        texts = zip(table.columns, line, strict=True)
        found.add_row(
            *(Text(_shown(c, n in table.left), "bold" if c.bold else "") for n, c in texts)
        )
    return found


def _lines(sentences: tuple[str, ...]) -> Iterator[Text]:
    for sentence in sentences:
        yield Text(one_line(sentence))
