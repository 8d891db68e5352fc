"""Search spaces: what a study varies, read from YAML and validated before anything runs."""

from kod_bench.sweeps.space.document import Document, merge
from kod_bench.sweeps.space.files import find_space, known_spaces
from kod_bench.sweeps.space.load import (
    SearchSpace,
    load_space,
    read_profiles,
    resolve_models,
    resolve_space,
)
from kod_bench.sweeps.space.model import Model, Point
from kod_bench.sweeps.space.options import (
    PRUNERS,
    AshaOptions,
    EvaluationOptions,
    MedianOptions,
    NetworkOptions,
    Pruner,
    ResourceOptions,
    SearchOptions,
    StudyOptions,
    TrainingSection,
)
from kod_bench.sweeps.space.variants import ModelVariant, parameters_model

__all__ = [
    "PRUNERS",
    "AshaOptions",
    "Document",
    "EvaluationOptions",
    "MedianOptions",
    "Model",
    "ModelVariant",
    "NetworkOptions",
    "Point",
    "Pruner",
    "ResourceOptions",
    "SearchOptions",
    "SearchSpace",
    "StudyOptions",
    "TrainingSection",
    "find_space",
    "known_spaces",
    "load_space",
    "merge",
    "parameters_model",
    "read_profiles",
    "resolve_models",
    "resolve_space",
]
