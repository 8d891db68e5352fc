"""Reports that any process can pass on: names that are no text are among what was printed."""

from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """pytest-xdist ends with an internal error where a report has lone surrogates."""
    report = yield
    report.sections = [(name, _as_text(text)) for name, text in report.sections]
    if report.longrepr is not None and (shown := str(report.longrepr)) != _as_text(shown):
        report.longrepr = _as_text(shown)
    return report


def _as_text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
