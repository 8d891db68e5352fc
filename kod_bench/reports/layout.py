"""Tables of a report as text, the same in every format: what stands where, in bold or not."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kod_bench.reports.content import Cell, Difference, Group, PublishedNumber, Score
from kod_bench.reports.differences import OPPONENTS
from kod_bench.reports.metrics import METRICS, heading_of, headline, of_hues
from kod_bench.reports.statistics import ALPHA, Estimate

MISSING = "n/a"
SAME_AS_BEST = "~"


@dataclass(frozen=True)
class CellText:
    """Text, in bold if it is the best of its kind."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class TableText:
    """A table.

    Attributes:
        columns: their headings.
        lines: of as many cells.
        left: headings of the columns that begin at the left; numbers end at the right.
    """

    columns: tuple[str, ...]
    lines: tuple[tuple[CellText, ...], ...]
    left: frozenset[str]


def comparison_table(group: Group) -> TableText:
    """Real versus real, then every cell: its metrics, seeds, times."""
    metrics = [
        metric
        for metric, reported in METRICS.items()
        if reported.is_always_shown or any(cell.score(metric) for cell in group.cells)
    ]
    headings = (heading_of(metric, metrics) for metric in metrics)
    columns = ("NFE", "Model", *headings, "Seeds", "Train s", "s/image")
    real = _plain(
        "",
        "real versus real",
        *(_number(group.real.score(metric), metric) for metric in metrics),
        "",
        "",
        "",
    )
    lines = (_cell_line(cell, metrics) for cell in group.cells)
    return TableText(columns, (real, *lines), frozenset({"Model"}))


def _cell_line(cell: Cell, metrics: Sequence[str]) -> tuple[CellText, ...]:
    seconds, training = cell.seconds_per_image, cell.training_seconds
    return (
        CellText(str(cell.network_evaluations)),
        CellText(cell.label),
        *(_score(cell.score(metric), metric) for metric in metrics),
        CellText(_seeds(cell, headline(metrics))),
        CellText("" if training is None else f"{training:.0f}"),
        CellText("" if seconds is None else f"{seconds:.3f}"),
    )


def _seeds(cell: Cell, metric: str) -> str:
    """How many, and how many of them have a score, if not all."""
    scored, trained = (cell.score(metric) or cell.kid).estimate.count, len(cell.seeds)
    return str(trained) if scored == trained else f"{scored} of {trained}"


def difference_tables(group: Group, metric: str) -> list[tuple[str, TableText]]:
    """One metric's differences and their titles, a table for each kind of opponent."""
    found = []
    for kind, name in OPPONENTS.items():
        lines = [line for line in group.differences if line.against == kind]
        table = difference_table(lines, metric, group.metrics)
        if table.lines:
            heading = heading_of(metric, group.metrics)
            found.append((f"Structured minus {name}, {heading}", table))
    return found


def difference_table(
    differences: Sequence[Difference], metric: str, metrics: Collection[str] | None = None
) -> TableText:
    """One metric's differences.

    Args:
        differences: in all metrics.
        metric: of `METRICS`.
        metrics: that the rows have, where the differences may not be in all of them.
    """
    if metrics is None:
        metrics = {line.metric for line in differences}
    name, is_of_hues = heading_of(metric, metrics), bool(of_hues(metric, metrics))
    columns = ("NFE", "Model", "minus", f"{name} difference", "Seeds", "p", "Holm p", "Says")
    lines = tuple(
        _plain(
            str(line.network_evaluations),
            line.label,
            line.other,
            estimate_text(line.estimate, metric, signed=True),
            str(line.estimate.count)
            if line.is_paired
            else f"{line.estimate.count}, {line.other_count}",
            MISSING if line.p_value is None else f"{line.p_value:.2g}",
            MISSING if line.adjusted is None else f"{line.adjusted:.2g}",
            _says(line, is_of_hues),
        )
        for line in differences
        if line.metric == metric
    )
    return TableText(columns, lines, frozenset({"Model", "minus", "Says"}))


def published_table(numbers: Sequence[PublishedNumber]) -> TableText:
    """What others have published, in the order of their tables; nothing is best here."""
    columns = ("Data", "T", "Model", "Metric", "Value", "Source", "Confidence", "Differs")
    lines = tuple(
        _plain(
            number.dataset,
            "" if number.steps is None else str(number.steps),
            number.model,
            number.metric,
            f"{number.value:.2f}",
            f"{number.paper}; {number.source}",
            number.confidence,
            number.differences,
        )
        for number in numbers
    )
    return TableText(columns, lines, frozenset(columns) - {"T", "Value"})


def _says(line: Difference, is_of_hues: bool) -> str:
    if line.p_value is None or line.estimate.mean is None:
        return "too few seeds"
    if line.adjusted is None:  # FID of few samples, KID and FID of hues, likelihoods
        return "biased" if line.metric == "fid" and not is_of_hues else "not judged"
    if line.adjusted <= ALPHA:
        return "better" if line.estimate.mean < 0 else "worse"
    return "not shown"


PUBLISHED_TITLE = "Published numbers, not ranked with ours"
PUBLISHED_NOTE = (
    "Other data, networks, extractors or counts: they show where the field stands, and cannot be "
    "compared with the tables of this report."
)
DIFFERENCES_NOTE = (
    "Difference: the model on the left minus the one named after it; negative is better. Seeds: "
    "those that both have, or those of either, which are not paired. p: t test, then adjusted as "
    "said above. The CSV table has exact sign-flip p-values, too."
)


def estimate_text(value: Estimate, metric: str, signed: bool = False) -> str:
    """A mean and its interval, if there is one."""
    if value.mean is None:
        return MISSING
    form = f"{'+' if signed else ''}.{METRICS[metric].digits}f"
    text = format(value.mean, form)
    if value.low is not None and value.high is not None:
        text += f" [{value.low:{form}}, {value.high:{form}}]"
    return text


def one_line(text: str) -> str:
    """Without line breaks and other control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _score(score: Score | None, metric: str) -> CellText:
    if score is None:
        return CellText(MISSING)
    same = score.indistinguishable is True
    return CellText(
        estimate_text(score.estimate, metric) + (f" {SAME_AS_BEST}" if same else ""),
        score.is_best and score.indistinguishable is not None,
    )


def _number(value: float | None, metric: str) -> str:
    return MISSING if value is None else f"{value:.{METRICS[metric].digits}f}"


def _plain(*texts: str) -> tuple[CellText, ...]:
    return tuple(map(CellText, texts))
