"""From a search space's YAML to everything that it says, validated."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kod_bench.errors import UsageError
from kod_bench.sweeps.space.messages import contains, dotted, first_error
from kod_bench.sweeps.space.models import ModelVariant, model_variants
from kod_bench.sweeps.space.options import Section, StudyOptions
from kod_bench.sweeps.yaml_file import load_yaml


class SearchSpace(Section):
    """A resolved search space: options of one profile, and every model at every grid point."""

    options: StudyOptions
    variants: tuple[ModelVariant, ...]
    profile: str
    source: str


def load_space(path: Path, profile: str, has_gpus: bool = False) -> SearchSpace:
    """Read and validate a search space, with one of its profiles laid over it.

    The profile "auto" is `cluster` where there are GPUs and else `laptop`, or the file's only
    one. Every profile is validated, not only the chosen one: a space with a mistake in the profile
    that runs next week is refused today.

    Raises:
        UsageError: with the file, the key's path and what is allowed.
    """
    document = load_yaml(path)
    profiles = document.pop("profiles", {"default": {}})
    models = document.pop("models", None)
    if not isinstance(profiles, dict) or not all(isinstance(p, dict) for p in profiles.values()):
        raise UsageError(f"{path}: profiles: must map names to sections of the search space")
    if profile == "auto":
        preferred = "cluster" if has_gpus else "laptop"
        profile = next(iter(profiles)) if len(profiles) == 1 else preferred
    if profile not in profiles:
        raise UsageError(
            f"{path}: no profile {profile!r}; the file has: {', '.join(map(str, profiles))}"
        )
    options = {
        name: _validate_options(path, document, f"profiles.{name}", overrides)
        for name, overrides in profiles.items()
    }
    # The network of a model is a profile's with the model's own keys over it.
    variants = {
        name: tuple(model_variants(path, models, each.network)) for name, each in options.items()
    }
    return SearchSpace(
        options=options[profile],
        variants=variants[profile],
        profile=profile,
        source=str(path),
    )


def _validate_options(
    path: Path, document: Mapping[str, Any], prefix: str, overrides: Mapping[str, Any]
) -> StudyOptions:
    merged = _merge(document, overrides)
    try:
        # JSON in strict mode: no "50" for 50, no true for 1, but a list where a tuple is meant.
        return StudyOptions.model_validate_json(json.dumps(merged, default=str), strict=True)
    except ValidationError as error:
        where, message = first_error(error, StudyOptions)
        if not where:
            raise UsageError(f"{path}: {prefix}: {message}") from error
        if contains(overrides, where):
            where = (prefix, *where)
        raise UsageError(f"{path}: {dotted(where)}: {message}") from error


def _merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overrides.items():
        old = merged.get(key)
        merged[key] = (
            _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return merged
