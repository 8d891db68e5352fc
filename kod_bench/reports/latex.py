"""A report as a LaTeX document: booktabs tables, each to be copied into a paper as it is.

Needs nothing beyond what TeX Live's ``texlive-latex-recommended`` has.
"""

import re
import unicodedata
from collections.abc import Iterable

from kod_bench.reports.content import ReportContent
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
from kod_bench.reports.markdown import provenance_lines
from kod_bench.reports.metrics import METRICS

_PREAMBLE = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,margin=2cm]{geometry}
\usepackage{array,booktabs,longtable}
\setlength{\LTleft}{0pt}
\setlength{\parindent}{0pt}
\setlength{\emergencystretch}{3em}
\begin{document}
"""

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"$\sim$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "-": "-{}",  # two of them are no dash
    "`": r"\`{}",
}
_NUMBER = re.compile(r"[+-](?=\d)")


def to_latex(content: ReportContent) -> str:
    """The whole report as a document of its own."""
    lines = [_PREAMBLE, rf"\section*{{{escape(content.title)}}}", escape(content.summary), ""]
    for group in content.groups:
        lines += [rf"\subsection*{{{escape(group.title)}}}"]
        lines += [_table(comparison_table(group), group.caption)]
        lines += _sentences(group.notes)
        lines += [r"\subsubsection*{What the evidence supports}", *_sentences(group.verdict)]
        if group.differences:
            lines += [rf"{{\footnotesize {escape(DIFFERENCES_NOTE)}\par}}"]
        for metric in METRICS:
            lines += [_table(table, title) for title, table in difference_tables(group, metric)]
    if content.published:
        lines += [rf"\subsection*{{{escape(PUBLISHED_TITLE)}}}"]
        table = published_table(content.published)
        lines += [_table(table, PUBLISHED_NOTE, _PUBLISHED_WIDTHS)]
    lines += [r"\subsection*{Provenance}", *_sentences(provenance_lines(content.provenance))]
    return "\n".join([*lines, r"\end{document}", ""])


#: In shares of the line, of the columns that hold sentences.
_PUBLISHED_WIDTHS = {"Model": 0.1, "Source": 0.16, "Confidence": 0.11, "Differs": 0.27}
_TEXT_WIDTHS = {"Model": 0.24, "minus": 0.17}
_THREE_METRICS_WIDTHS = {"Model": 0.16}


def _table(table: TableText, caption: str, widths: dict[str, float] | None = None) -> str:
    if widths is None:
        crowded = len(table.columns) > 7 and "minus" not in table.columns
        widths = _THREE_METRICS_WIDTHS if crowded else _TEXT_WIDTHS
    form = "".join(
        rf">{{\raggedright\arraybackslash}}p{{{widths[name]}\linewidth}}"
        if name in widths
        else ("l" if name in table.left else "r")
        for name in table.columns
    )
    head = " & ".join(escape(name) for name in table.columns) + r" \\"
    lines = [
        " & ".join(
            rf"\textbf{{{_value(cell.text)}}}" if cell.bold else _value(cell.text) for cell in line
        )
        + r" \\"
        for line in table.lines
    ]
    return "\n".join(
        [
            rf"{{\footnotesize\setlength{{\tabcolsep}}{{4pt}} {escape(caption)}",
            rf"\begin{{longtable}}{{@{{}}{form}@{{}}}}",
            r"\toprule",
            head,
            r"\midrule",
            r"\endhead",
            r"\bottomrule",
            r"\endfoot",
            *lines,
            r"\end{longtable}}",
        ]
    )


def _sentences(sentences: Iterable[str]) -> list[str]:
    items = [rf"\item {escape(sentence)}" for sentence in sentences]
    if not items:
        return []
    return [r"\begin{itemize}\footnotesize\setlength{\itemsep}{0pt}", *items, r"\end{itemize}"]


def _value(text: str) -> str:
    """A cell: signs before digits are minus signs."""
    parts = _NUMBER.split(text)
    signs = _NUMBER.findall(text)
    found = escape(parts[0])
    for sign, part in zip(signs, parts[1:], strict=True):
        found += f"${sign}$" + escape(part)
    return found


def escape(text: str) -> str:
    """Text that stays text. Letters that the fonts lack lose their marks, or become a ``?``."""
    return "".join(_ESCAPES.get(c) or _letter(c) for c in one_line(text))


def _letter(character: str) -> str:
    # Of letters beyond ASCII, those that TeX's own fonts can build.
    base = unicodedata.normalize("NFD", character)[0]
    if character.isascii() or character in "ßæøÆØ" or (ord(character) < 256 and base.isascii()):
        return character
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(_ESCAPES.get(c, c) for c in plain) or "?"
