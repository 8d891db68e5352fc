"""Search spaces: what a study varies, read from YAML and validated before anything runs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kod_bench.sweeps.space.document import Document, merge
    from kod_bench.sweeps.space.evaluation import EvaluationOptions
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
        NetworkOptions,
        ResourceOptions,
        StudyOptions,
        TrainingSection,
    )
    from kod_bench.sweeps.space.search_options import (
        PRUNERS,
        RUNG_METRICS,
        AshaOptions,
        MedianOptions,
        Pruner,
        SearchOptions,
    )
    from kod_bench.sweeps.space.variants import ModelVariant, parameters_model

__all__ = [
    "PRUNERS",
    "RUNG_METRICS",
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

# A shell that completes the name of a space needs `files` alone, and must not wait for torch.
_MODULES = {
    "document": ("Document", "merge"),
    "evaluation": ("EvaluationOptions",),
    "files": ("find_space", "known_spaces"),
    "load": ("SearchSpace", "load_space", "read_profiles", "resolve_models", "resolve_space"),
    "model": ("Model", "Point"),
    "search_options": (
        "PRUNERS",
        "RUNG_METRICS",
        "AshaOptions",
        "MedianOptions",
        "Pruner",
        "SearchOptions",
    ),
    "variants": ("ModelVariant", "parameters_model"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOMES.get(name, 'options')}")
    found = globals()[name] = getattr(module, name)
    return found
