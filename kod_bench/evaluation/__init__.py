"""Evaluation: images in, numbers out."""

from kod_bench.evaluation.features import EXTRACTORS, FeatureExtractor, make_extractor
from kod_bench.evaluation.reference import Reference
from kod_bench.evaluation.scores import fid, kid

__all__ = ["EXTRACTORS", "FeatureExtractor", "Reference", "fid", "kid", "make_extractor"]
