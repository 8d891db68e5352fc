"""Reports: rows in, tables and pictures out."""

from kod_bench.reports.comparison import ComparisonTable, compare
from kod_bench.reports.pictures import Panel, write_contact_sheet
from kod_bench.reports.statistics import Estimate, estimate

__all__ = ["ComparisonTable", "Estimate", "Panel", "compare", "estimate", "write_contact_sheet"]
