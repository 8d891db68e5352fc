"""What processes, data sets and feature extractors must do, as tests for a plug-in's author.

Needs pytest, which nothing else of this package does. A plug-in's test is a subclass whose name
begins with `Test`::

    from kod_bench.testing import ProcessConformance
    from my_package import MyProcess


    class TestMyProcess(ProcessConformance):
        process_class = MyProcess
        cases = {"default": {}, "strong": {"strength": 2.0}}
"""

import pytest

pytest.register_assert_rewrite(
    "kod_bench.testing.datasets",
    "kod_bench.testing.extractors",
    "kod_bench.testing.process_cases",
    "kod_bench.testing.process_sampling",
    "kod_bench.testing.process_training",
    "kod_bench.testing.processes",
)

from kod_bench.testing.datasets import DatasetConformance  # noqa: E402
from kod_bench.testing.extractors import ExtractorConformance  # noqa: E402
from kod_bench.testing.processes import ProcessConformance  # noqa: E402

__all__ = ["DatasetConformance", "ExtractorConformance", "ProcessConformance"]
