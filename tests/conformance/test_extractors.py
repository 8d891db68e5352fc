"""The extractor whose weights are always there passes the conformance suite that is shipped."""

from kod_bench.evaluation.efficientnet import EfficientNetLite0
from kod_bench.testing import ExtractorConformance


class TestEfficientNetLite0(ExtractorConformance):
    extractor_class = EfficientNetLite0
