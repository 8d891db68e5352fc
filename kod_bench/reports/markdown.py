"""A report as GitHub-flavoured Markdown, aligned so that it also reads well as plain text."""

import re
from collections.abc import Iterable, Sequence

from kod_bench.reports.comparison import Comparison
from kod_bench.reports.content import Provenance, PublishedNumber, ReportContent
from kod_bench.reports.layout import (
    DIFFERENCES_NOTE,
    PUBLISHED_NOTE,
    PUBLISHED_TITLE,
    TableText,
    comparison_table,
    difference_table,
    difference_tables,
    one_line,
    published_table,
)
from kod_bench.reports.metrics import METRICS

#: HTML, emphasis, code and cells begin with one of these, and the target of a link with ``](``.
#: Underscores inside a name, a lone tilde and other brackets mean nothing and are left to be read.
_SPECIAL = re.compile(r"([\\`*<>&|]|(?<=\])\(|(?<!\w)_|_(?!\w)|~(?=.*~)|(?<=~)~)")


def to_markdown(content: ReportContent) -> str:
    """The whole report."""
    lines = [f"# {escape(content.title)}: {escape(content.summary)}", ""]
    for group in content.groups:
        lines += [f"## {escape(group.title)}", "", escape(group.caption), ""]
        lines += [*table_lines(comparison_table(group)), "", *_bullets(group.notes), ""]
        lines += ["### What the evidence supports", "", *_bullets(group.verdict), ""]
        for metric in METRICS:
            for title, table in difference_tables(group, metric):
                lines += [f"{title}:", "", *table_lines(table), ""]
        if group.differences:
            lines += [DIFFERENCES_NOTE, ""]
    lines += _published(content.published)
    lines += ["## Provenance", "", *_bullets(provenance_lines(content.provenance)), ""]
    return "\n".join(lines)


def comparison_markdown(found: Comparison) -> str:
    """Two sides that somebody chose."""
    lines = [f"# {escape(found.first)} and {escape(found.second)}", ""]
    for each in found.groups:
        lines += [f"## {escape(each.title)}", "", *_bullets(each.verdict), ""]
        for metric in METRICS:
            table = difference_table(each.differences, metric)
            if table.lines:
                lines += [*table_lines(table), ""]
    for group in found.tables:
        lines += [f"## {escape(group.title)}", "", escape(group.caption), ""]
        lines += [*table_lines(comparison_table(group)), "", *_bullets(group.notes), ""]
    lines += _published(found.published)
    return "\n".join([*lines, *_bullets(found.notes), ""])


def _published(numbers: Sequence[PublishedNumber]) -> list[str]:
    if not numbers:
        return []
    table = table_lines(published_table(numbers))
    return [f"## {PUBLISHED_TITLE}", "", PUBLISHED_NOTE, "", *table, ""]


def table_lines(table: TableText) -> list[str]:
    """A table, its columns padded."""
    cells = [
        [escape(name) for name in table.columns],
        *(
            [f"**{escape(cell.text)}**" if cell.bold else escape(cell.text) for cell in line]
            for line in table.lines
        ),
    ]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(table.columns))]
    left = [name in table.left for name in table.columns]
    rule = [
        "-" * width if at_left else "-" * (width - 1) + ":"
        for width, at_left in zip(widths, left, strict=True)
    ]

    def line(texts: list[str]) -> str:
        padded = [
            text.ljust(width) if at_left else text.rjust(width)
            for text, width, at_left in zip(texts, widths, left, strict=True)
        ]
        return "| " + " | ".join(padded) + " |"

    return [line(cells[0]), line(rule), *map(line, cells[1:])]


def provenance_lines(provenance: Provenance) -> list[str]:
    """Where the numbers come from, in sentences; what needs attention first."""
    lines = list(provenance.statements)
    for sweep in provenance.sweeps:
        lines.append(
            f"Sweep {sweep.name}, profile {sweep.profile}, {sweep.planned} trials planned; "
            f"sweep.yaml has the hash {sweep.document_hash}."
        )
    for code in provenance.codes:
        commit = "no git checkout" if code.git_commit is None else f"commit {code.git_commit}"
        dirty = " with uncommitted changes" if code.git_dirty else ""
        lines.append(
            f"Code {code.version}, source hash {code.code_hash}, {commit}{dirty}: {code.rows} rows."
        )
    lines += [
        f"Data {name}, hash {digest}, {count} training images."
        for name, digest, count in provenance.data
    ]
    lines += [
        f"{each.device} on {each.hostname}: {each.rows} rows." for each in provenance.machines
    ]
    if provenance.packages:
        each = ", ".join(f"{name} {'/'.join(found)}" for name, found in provenance.packages.items())
        lines.append(f"Packages: {each}.")
    accelerator = (
        f"{provenance.accelerator_seconds / 3600:.2f} accelerator hours"
        if provenance.accelerator_seconds
        else "no accelerator"
    )
    lines.append(
        f"All trials together: {provenance.wall_seconds / 3600:.2f} hours of wall time, "
        f"{accelerator}; trials.csv has each trial's."
    )
    lines += [f"Failed {trial}: {reason}" for trial, reason in provenance.failures[:_MOST_FAILURES]]
    if (more := len(provenance.failures) - _MOST_FAILURES) > 0:
        lines.append(f"... and {more} more failed.")
    for excluded in provenance.excluded:
        names = ", ".join(excluded.trials[:5])
        more_names = ", ..." if len(excluded.trials) > 5 else ""
        lines.append(f"Excluded, {excluded.reason}: {names}{more_names}.")
    return lines


_MOST_FAILURES = 50


def _bullets(sentences: Iterable[str]) -> list[str]:
    return [f"- {escape(sentence)}" for sentence in sentences]


def escape(text: str) -> str:
    """Text that stays text, on one line and in its cell."""
    return _SPECIAL.sub(r"\\\1", one_line(text))
