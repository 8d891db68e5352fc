"""Evaluation: images in, numbers out."""

from kod_bench.evaluation.colour_wheel import colour_wheel, write_wheels
from kod_bench.evaluation.extractors import (
    check_extractor,
    choose_extractor,
    find_installed,
    is_reference,
    is_users_code,
    look_for_modules_in,
    make_extractor,
)
from kod_bench.evaluation.features import ExtractorError, FeatureExtractor
from kod_bench.evaluation.frechet import fid, fid_infinity
from kod_bench.evaluation.inception import CleanFidExtractor
from kod_bench.evaluation.kept_features import KeptFeatures
from kod_bench.evaluation.kernel import kid
from kod_bench.evaluation.manifold import density_and_coverage
from kod_bench.evaluation.measured import Measured
from kod_bench.evaluation.memorisation import Nearest, write_nearest_pairs
from kod_bench.evaluation.metrics import METRICS, Scores, choose_metrics, marks, score
from kod_bench.evaluation.mollweide import write_mollweide
from kod_bench.evaluation.precision_recall import precision_and_recall
from kod_bench.evaluation.reference import Reference

__all__ = [
    "METRICS",
    "CleanFidExtractor",
    "ExtractorError",
    "FeatureExtractor",
    "KeptFeatures",
    "Measured",
    "Nearest",
    "Reference",
    "Scores",
    "check_extractor",
    "choose_extractor",
    "choose_metrics",
    "colour_wheel",
    "density_and_coverage",
    "fid",
    "fid_infinity",
    "find_installed",
    "is_reference",
    "is_users_code",
    "kid",
    "look_for_modules_in",
    "make_extractor",
    "marks",
    "precision_and_recall",
    "score",
    "write_mollweide",
    "write_nearest_pairs",
    "write_wheels",
]
