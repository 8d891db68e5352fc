"""The report as one HTML page that needs nothing else, not even a network."""

from kod_bench.reports.page.write import MOST_BYTES, page, write_page

__all__ = ["MOST_BYTES", "page", "write_page"]
