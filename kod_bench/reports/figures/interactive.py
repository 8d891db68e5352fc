"""Figures for plotly.js, as the plain dictionaries that it reads.

Plotly's own Python classes would check each of them for a second and add a template of forty
kilobytes; the page's script sets the colours of text and grid, for light, dark and print.
"""

import html
from typing import Any

from kod_bench.reports.figures.chart import COLOURS, Chart, Figure, HeatMap, Line
from kod_bench.reports.layout import one_line

#: A longer legend leaves no room for the figure; names are shown on hovering.
_MOST_IN_LEGEND = 24

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")


def plotly_figure(figure: Figure) -> dict[str, Any]:
    """Data and layout of a figure."""
    return _heat_map(figure) if isinstance(figure, HeatMap) else _chart(figure)


def _text(text: str) -> str:
    """Plotly reads some HTML in texts; names of models and axes are none."""
    return html.escape(one_line(text), quote=False)


def _axis(label: str, log: bool, ticks: tuple[tuple[float, str], ...]) -> dict[str, Any]:
    axis: dict[str, Any] = {
        "title": {"text": _text(label)},
        "type": "log" if log else "linear",
        "automargin": True,
        "zeroline": False,
    }
    if ticks:
        texts = ["<br>".join(_text(line) for line in text.split("\n")) for _, text in ticks]
        if not log:  # room for the names at both ends
            places = [place for place, _ in ticks]
            margin = 0.06 * (places[-1] - places[0]) or 0.5
            axis["range"] = [places[0] - margin, places[-1] + margin]
        axis |= {"tickvals": [place for place, _ in ticks], "ticktext": texts}
    return axis


def _chart(chart: Chart) -> dict[str, Any]:
    data = [_bars(line) if chart.bars else _line(line) for line in chart.lines]
    if chart.front:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "Pareto front",
                "x": [x for x, _ in chart.front],
                "y": [y for _, y in chart.front],
                "line": {"shape": "hv", "width": 1.5, "dash": "dot", "color": COLOURS[6]},
                "hoverinfo": "skip",
            }
        )
    layout: dict[str, Any] = {
        "xaxis": _axis(chart.x_label, chart.x_log, chart.x_ticks),
        "yaxis": _axis(chart.y_label, chart.y_log, chart.y_ticks),
        "showlegend": any(line.in_legend for line in chart.lines)
        and not chart.bars
        and len(chart.lines) <= _MOST_IN_LEGEND,
    }
    if chart.floor is not None:
        level, label = chart.floor
        layout["shapes"] = [
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": level,
                "y1": level,
                "line": {"dash": "dot", "width": 1.5, "color": COLOURS[6]},
                "label": {"text": _text(label), "textposition": "end", "font": {"size": 11}},
            }
        ]
    return {"data": data, "layout": layout}


def _line(line: Line) -> dict[str, Any]:
    colour = COLOURS[line.slot % len(COLOURS)] if line.shade is None else shade(line.shade)
    mode = "+".join([*(["lines"] if line.joined else []), *(["markers"] if line.marked else [])])
    # Beyond the colours, dashes tell lines apart.
    dash = "dash" if line.dashed or line.slot >= len(COLOURS) else "solid"
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": mode,
        "name": _text(line.label),
        "legendgroup": _text(line.label),
        "showlegend": line.in_legend,
        "x": list(line.x),
        "y": list(line.y),
        "line": {"color": colour, "width": 2, "dash": dash},
        "marker": {"color": colour, "size": 9, "symbol": _SYMBOLS[line.slot % len(_SYMBOLS)]},
        "hovertemplate": "%{x:.4~g}, %{y:.4~g}<br>%{text}<extra>%{fullData.name}</extra>",
        "text": [_text(name) for name in line.names] or "",
    }
    if line.shade is not None:
        trace["hovertemplate"] = "%{text}<extra></extra>"
    if any(low is not None for low in line.low):
        ends = list(zip(line.y, line.low, line.high, strict=True))
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [0 if high is None else high - y for y, _, high in ends],
            "arrayminus": [0 if low is None else y - low for y, low, _ in ends],
            "thickness": 1.5,
            "width": 4,
            "color": colour,
        }
    return trace


def _bars(line: Line) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": _text(line.label),
        "x": list(line.x),
        "y": list(line.y),
        "marker": {"color": COLOURS[line.slot]},
        "hovertemplate": "%{x:.3f}<extra></extra>",
    }


def _heat_map(figure: HeatMap) -> dict[str, Any]:
    # By place, not by value: strengths of a grid are as often spaced by factors as evenly.
    return {
        "data": [
            {
                "type": "heatmap",
                "x": [f"{x:g}" for x in figure.x],
                "y": [f"{y:g}" for y in figure.y],
                "z": [list(line) for line in figure.z],
                "texttemplate": "%{z:.3g}",
                "colorscale": "Cividis",
                "colorbar": {"title": {"text": _text(figure.z_label)}},
                "xgap": 2,
                "ygap": 2,
                "hovertemplate": "K = %{x}, K_ref = %{y}: %{z:.4g}<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": _axis(figure.x_label, False, ()) | {"type": "category"},
            "yaxis": _axis(figure.y_label, False, ()) | {"type": "category"},
        },
    }


def shade(place: float) -> str:
    """A colour from blue, the best, to yellow, the worst (the ends of cividis, less extreme)."""
    low, high = (0, 64, 140), (221, 200, 70)
    mixed = (round(a + (b - a) * min(1.0, max(0.0, place))) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)
