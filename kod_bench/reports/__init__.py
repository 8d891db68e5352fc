"""Reports: rows in, tables and pictures out."""

from kod_bench.reports.content import ReportContent, SweepOrigin
from kod_bench.reports.frame import ReadFrame, combine, frame_of, read_frame
from kod_bench.reports.make import make_content
from kod_bench.reports.page import write_page
from kod_bench.reports.pictures import Panel, write_contact_sheet
from kod_bench.reports.row_cache import read_cached
from kod_bench.reports.statistics import Estimate, estimate
from kod_bench.reports.sweep_report import SweepReport

__all__ = [
    "Estimate",
    "Panel",
    "ReadFrame",
    "ReportContent",
    "SweepOrigin",
    "SweepReport",
    "combine",
    "estimate",
    "frame_of",
    "make_content",
    "read_cached",
    "read_frame",
    "write_contact_sheet",
    "write_page",
]
