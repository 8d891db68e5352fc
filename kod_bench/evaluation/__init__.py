"""Evaluation: images in, numbers out."""

from kod_bench.evaluation.features import EXTRACTORS, FeatureExtractor, make_extractor
from kod_bench.evaluation.frechet import fid, fid_infinity
from kod_bench.evaluation.kernel import kid
from kod_bench.evaluation.manifold import density_and_coverage
from kod_bench.evaluation.reference import Reference

__all__ = [
    "EXTRACTORS",
    "FeatureExtractor",
    "Reference",
    "density_and_coverage",
    "fid",
    "fid_infinity",
    "kid",
    "make_extractor",
]
