"""Reports: rows in, tables and pictures out."""

from kod_bench.reports.comparison import ComparisonTable, compare
from kod_bench.reports.pictures import Panel, write_contact_sheet
from kod_bench.reports.statistics import Estimate, estimate
from kod_bench.reports.sweep_report import SweepReport

__all__ = [
    "ComparisonTable",
    "Estimate",
    "Panel",
    "SweepReport",
    "compare",
    "estimate",
    "write_contact_sheet",
]
