"""Figures: worked out once from a report's content, drawn by plotly in a page and on paper."""

from kod_bench.reports.figures.chart import Chart, HeatMap, Line
from kod_bench.reports.figures.from_content import content_figures
from kod_bench.reports.figures.from_trials import TrialFiles, trial_figures
from kod_bench.reports.figures.interactive import plotly_figure
from kod_bench.reports.figures.paper import write_paper_figures

__all__ = [
    "Chart",
    "HeatMap",
    "Line",
    "TrialFiles",
    "content_figures",
    "plotly_figure",
    "trial_figures",
    "write_paper_figures",
]
