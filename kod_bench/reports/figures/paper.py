"""Figures on paper: SVG and PDF of the width of a column, by matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kod_bench.atomic import atomic_write
from kod_bench.reports.figures.chart import COLOURS, Chart, Figure, HeatMap
from kod_bench.reports.figures.interactive import shade
from kod_bench.reports.layout import one_line

_MARKERS = ("o", "s", "D", "^", "P", "X", "*")
_INCHES = (4.6, 3.2)

# Letters stay text in PDF; equal figures are equal files.
_SETTINGS: Any = {
    "pdf.fonttype": 42,
    "svg.hashsalt": "kod-bench",
    "font.size": 8,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def write_paper_figures(folder: Path, figures: Sequence[Figure], prefix: str = "") -> list[Path]:
    """Write each figure as ``<prefix><name>.svg`` and ``.pdf``.

    Returns:
        The files.

    Raises:
        OSError: if they cannot be written.
    """
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(_SETTINGS):
        for figure in figures:
            drawn = _heat_map(figure) if isinstance(figure, HeatMap) else _chart(figure)
            for suffix, metadata in (("svg", {"Date": None}), ("pdf", {"CreationDate": None})):
                path = folder / f"{prefix}{figure.name}.{suffix}"
                with atomic_write(path) as file:
                    drawn.savefig(file, format=suffix, metadata=metadata, bbox_inches="tight")
                written.append(path)
    return written


def _text(text: str) -> str:
    """Dollars would begin a formula."""
    return "\n".join(one_line(line).replace("$", r"\$") for line in text.split("\n"))


def _axes() -> tuple[Any, Any]:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=_INCHES, layout="constrained")
    return canvas, canvas.subplots()


def _chart(chart: Chart) -> Any:
    canvas, axes = _axes()
    for line in chart.lines:
        colour = COLOURS[line.slot % len(COLOURS)] if line.shade is None else shade(line.shade)
        label = _text(line.label) if line.in_legend else None
        if chart.bars:
            axes.barh(line.y, line.x, color=colour)
            continue
        dashed = line.dashed or line.slot >= len(COLOURS)
        axes.plot(
            line.x,
            line.y,
            linestyle=("--" if dashed else "-") if line.joined else "none",
            marker=_MARKERS[line.slot % len(_MARKERS)] if line.marked else None,
            color=colour,
            label=label,
            markersize=4,
            linewidth=1.2,
        )
        if line.low:
            ends = [
                (x, y, low, high)
                for x, y, low, high in zip(line.x, line.y, line.low, line.high, strict=True)
                if low is not None and high is not None
            ]
            if ends:
                axes.errorbar(
                    [x for x, _, _, _ in ends],
                    [y for _, y, _, _ in ends],
                    yerr=[[y - low for _, y, low, _ in ends], [h - y for _, y, _, h in ends]],
                    fmt="none",
                    ecolor=colour,
                    elinewidth=1,
                    capsize=2,
                )
    if chart.front:
        axes.step(
            [x for x, _ in chart.front],
            [y for _, y in chart.front],
            where="post",
            color=COLOURS[6],
            linestyle=":",
            label="Pareto front",
        )
    if chart.floor is not None:
        level, label = chart.floor
        axes.axhline(level, color=COLOURS[6], linestyle=":", linewidth=1, label=_text(label))
    if chart.x_log:
        axes.set_xscale("log")
    if chart.y_log:
        axes.set_yscale("log")
    for axis, ticks in ((axes.xaxis, chart.x_ticks), (axes.yaxis, chart.y_ticks)):
        if ticks:
            axis.set_ticks([place for place, _ in ticks], [_text(text) for _, text in ticks])
            axis.minorticks_off()
    axes.set_xlabel(_text(chart.x_label))
    axes.set_ylabel(_text(chart.y_label))
    if axes.get_legend_handles_labels()[0]:
        canvas.legend(loc="outside lower center", ncols=2, frameon=False)
    return canvas


def _heat_map(figure: HeatMap) -> Any:
    canvas, axes = _axes()
    values = [[float("nan") if z is None else z for z in line] for line in figure.z]
    drawn = axes.imshow(values, origin="lower", cmap="cividis", aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks(range(len(figure.x)), [f"{x:g}" for x in figure.x])
    axes.set_yticks(range(len(figure.y)), [f"{y:g}" for y in figure.y])
    axes.set_xlabel(_text(figure.x_label))
    axes.set_ylabel(_text(figure.y_label))
    canvas.colorbar(drawn, ax=axes, label=_text(figure.z_label))
    return canvas
