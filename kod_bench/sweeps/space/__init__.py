"""Search spaces: what a study varies, read from YAML and validated before anything runs."""

from kod_bench.sweeps.space.files import find_space
from kod_bench.sweeps.space.load import SearchSpace, load_space
from kod_bench.sweeps.space.options import (
    EvaluationOptions,
    NetworkOptions,
    ResourceOptions,
    StudyOptions,
    TrainingSection,
)
from kod_bench.sweeps.space.variants import ModelVariant, parameters_model

__all__ = [
    "EvaluationOptions",
    "ModelVariant",
    "NetworkOptions",
    "ResourceOptions",
    "SearchSpace",
    "StudyOptions",
    "TrainingSection",
    "find_space",
    "load_space",
    "parameters_model",
]
