"""From a search space's YAML to everything that it says, validated."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kod_bench.errors import UsageError
from kod_bench.evaluation.frechet import INFINITY_SMALLEST
from kod_bench.plugins import PluginError
from kod_bench.results import LIKELIHOOD_UNITS
from kod_bench.sweeps.space.axes import AXIS_KINDS, is_axis, parse_axis
from kod_bench.sweeps.space.document import Document, parse_changes
from kod_bench.sweeps.space.keys import SECTIONS, leaves
from kod_bench.sweeps.space.likelihoods import why_not
from kod_bench.sweeps.space.limits import Section
from kod_bench.sweeps.space.messages import first_error, unknown_key
from kod_bench.sweeps.space.model import Model
from kod_bench.sweeps.space.objectives import why_no_objective
from kod_bench.sweeps.space.options import StudyOptions
from kod_bench.sweeps.space.search_options import SearchOptions
from kod_bench.sweeps.space.strategies import STRATEGIES
from kod_bench.sweeps.space.variants import ModelVariant, parameters_model, validated
from kod_bench.sweeps.space.yaml_file import load_yaml

#: Ten thousand trials are planned in seconds, these in a minute or two.
MAX_TRIALS = 100_000

#: What a file may say beside `StudyOptions`.
_LAYERS = ("models", "profiles")


class SearchSpace(Section):
    """A resolved search space: options of one profile, and every model at every point.

    Attributes:
        options: what is not a model's; a key that varies is at the first of its values.
        variants: every point of every model, in the order of the file.
        profile: the profile taken.
        source: the file.
        document: what the file, the profile and the changes say together; a space by itself.
        changes: what the command line has changed.
    """

    options: StudyOptions
    variants: tuple[ModelVariant, ...]
    profile: str
    source: str
    document: dict[str, Any]
    changes: dict[str, Any]


def load_space(
    path: Path, profile: str, has_gpus: bool = False, changes: Sequence[str] = ()
) -> SearchSpace:
    """Read and validate a search space, with one of its profiles laid over it.

    The profile "auto" is `workstation` where there are GPUs and the file has it, else `laptop`, or
    the file's only one; never `cluster` beside others. Every profile is validated, not only the
    chosen one: a space with a mistake in the profile that runs next week is refused today.

    Args:
        path: of the YAML.
        profile: "auto" or the name of one.
        has_gpus: decides what "auto" is.
        changes: ``path=value`` pairs, laid over the profile.

    Raises:
        UsageError: with the file, the key's path and what is allowed.
    """
    base, profiles = read_profiles(path)
    if profile == "auto":
        preferred = "workstation" if has_gpus and "workstation" in profiles else "laptop"
        profile = next(iter(profiles)) if len(profiles) == 1 else preferred
    if profile not in profiles:
        raise UsageError(
            f"{path}: no profile {profile!r}; the file has: {', '.join(map(str, profiles))}"
        )
    changed = parse_changes(changes, Document.of("", base, profile, profiles[profile], {}).merged)
    spaces = {
        name: resolve_space(
            Document.of(str(path), base, name, overrides, changed if name == profile else {})
        )
        for name, overrides in profiles.items()
    }
    return spaces[profile]


def read_profiles(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What a file says for all profiles, and each profile's own; a file without has "default".

    Raises:
        UsageError: if the file cannot be read, or its profiles are no sections.
    """
    document = load_yaml(path)
    profiles = document.pop("profiles", {"default": {}})
    if (
        not isinstance(profiles, dict)
        or not profiles
        or not all(isinstance(p, dict) for p in profiles.values())
    ):
        raise UsageError(f"{path}: profiles: must map names to sections of the search space")
    return document, profiles


def resolve_space(document: Document) -> SearchSpace:
    """Validate one profile of a space, and expand it.

    Raises:
        UsageError: with the file, the key's path and what is allowed.
    """
    options, models = resolve_models(document)
    variants: list[ModelVariant] = []
    _check_objectives(document, options)
    _check_size(document, options, models)
    for model in models:
        _check_comparable(options.search, model)
        points = list(STRATEGIES[options.search.strategy](model, options.search))
        model.check_draws(options.resources)
        variants += [model.resolve(point, options.resources) for point in points]
    _check_labels(document, variants)
    _check_values(document, options, variants)
    _check_rungs(document, options.search, variants)
    _check_likelihoods(document, options, variants)
    return SearchSpace(
        options=options,
        variants=tuple(variants),
        profile=document.profile,
        source=document.source,
        document=document.merged,
        changes=dict(document.changes),
    )


def resolve_models(document: Document) -> tuple[StudyOptions, list[Model]]:
    """Validate one profile of a space without expanding it.

    Raises:
        UsageError: with the file, the key's path and what is allowed.
    """
    options = _options(document)
    models = _models(document)
    _check_shared_parameters(document, models)
    return options, models


def _check_objectives(document: Document, options: StudyOptions) -> None:
    """Refuse to search by what no trial of the study will have."""
    where = document.where(("search", "metric"))
    if "fid_infinity" in options.search.metrics and (
        options.evaluation.samples < (least := 2 * INFINITY_SMALLEST)
    ):
        raise UsageError(
            f"{where}: fid_infinity needs evaluation.samples of at least {least}, not "
            f"{options.evaluation.samples}"
        )


def _check_values(
    document: Document, options: StudyOptions, variants: Iterable[ModelVariant]
) -> None:
    """Refuse to search by what some data set of the study has no value of."""
    if options.search.strategy != "optuna":
        return
    reason = why_no_objective(options.search, [variant.dataset for variant in variants])
    if reason is not None:
        raise UsageError(f"{document.where(('search', 'metric'))}: {reason}")


def _check_size(document: Document, options: StudyOptions, models: Sequence[Model]) -> None:
    """Refuse more trials than any sweep has, before the first of them is made."""
    seeds, total = len(options.seeds), 0
    for model in models:
        points = model.grid_size(MAX_TRIALS)
        # A few values may be exhausted before so many draws: what is wanted is counted.
        draws = options.search.trials or 1 if model.sampled else 1
        total += points * draws * seeds
        if total > MAX_TRIALS:
            parts = [f"{points:,} points of grids", f"{draws:,} draws", f"{seeds:,} seeds"]
            factors = [part for part, n in zip(parts, (points, draws, seeds), strict=True) if n > 1]
            raise UsageError(
                f"{document.where(('models', model.name))}: {' x '.join(factors) or 'one trial'} "
                f"{'make' if total == points * draws * seeds else 'with the models before make'} "
                f"at least {total:,} trials; at most {MAX_TRIALS:,} are planned"
            )


def _check_comparable(search: SearchOptions, model: Model) -> None:
    """Refuse to draw what makes scores of one search incomparable."""
    if search.strategy != "optuna" and search.pruner is None:
        return
    for path in model.sampled:
        if path[0] == "dataset" and path != ("dataset", "augment"):
            raise UsageError(
                f"{model.where(path)}: scores on different images cannot be compared by "
                f"search.{'strategy' if search.pruner is None else 'early_stopping'}; use grid"
            )
        if path == ("training", "iterations") and (
            search.pruner is not None and search.pruner.min_iterations is None
        ):
            raise UsageError(
                f"{model.where(path)}: trials are compared at the same iterations; with a drawn "
                f"number of them say search.{search.early_stopping}.min_iterations"
            )


def _check_rungs(
    document: Document, search: SearchOptions, variants: Iterable[ModelVariant]
) -> None:
    """Refuse early stopping that would stop nothing."""
    if (pruner := search.pruner) is None:
        return
    ends = {variant.training.iterations for variant in variants}
    section = ("search", str(search.early_stopping))
    try:
        rungs = [pruner.rungs(end) for end in ends]
    except ValueError as error:
        raise UsageError(f"{document.touched(section)}: {error}") from error
    if not any(rungs):
        name = (*section, "min_iterations")
        raise UsageError(
            f"{document.where(name)}: {pruner.min_iterations or 1} is not before the end of any "
            f"trial, training.iterations {max(ends, default=0)}: nothing could be stopped"
        )


def _check_likelihoods(
    document: Document, options: StudyOptions, variants: Iterable[ModelVariant]
) -> None:
    """Refuse to find, or to search by, the likelihood of a model that has none."""
    wanted = tuple(name for name in options.search.metrics if name in LIKELIHOOD_UNITS)
    where = document.where(("search", "metric") if wanted else ("evaluation", "likelihood"))
    for each in variants:
        said = each.process, each.steps, each.parameters
        if (reason := why_not(*said, options.evaluation, wanted)) is not None:
            raise UsageError(
                f"{where}: model {each.model}: {reason}; leave out the model, or the key"
            )


def _options(document: Document) -> StudyOptions:
    common = {key: value for key, value in document.merged.items() if key != "models"}
    first = _at_first_values(document, common)
    try:
        return validated(StudyOptions, first)
    except ValidationError as error:
        where, message = first_error(error, StudyOptions, _LAYERS)
        place = document.where(where) if where else document.name
        raise UsageError(f"{place}: {message}") from error
    except PluginError as error:  # only a data set's options ask a plug-in for anything
        raise UsageError(f"{document.where(('dataset', 'name'))}: {error}") from error


def _at_first_values(document: Document, common: Mapping[str, Any]) -> dict[str, Any]:
    """The common sections with one value in place of each axis."""
    first = {key: value for key, value in common.items() if key != "parameters"}
    if (parameters := common.get("parameters")) is not None:
        first["parameters"] = {} if isinstance(parameters, dict) else parameters
    for key, options in SECTIONS.items():
        if not isinstance(section := common.get(key), dict):
            continue
        for path, value in leaves(section, options, (key,)).items():
            if is_axis(value):
                axis = parse_axis(document.where(path), value)
                first = _with(first, path, axis.extremes[0])
    for path in _axes_in(first):
        raise UsageError(
            f"{document.where(path)}: cannot vary; only {', '.join(SECTIONS)}, parameters and "
            "models have axes"
        )
    return first


def _with(node: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    key, *rest = path
    return {**node, key: _with(node[key], rest, value) if rest else value}


def _axes_in(node: Any, path: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
    if is_axis(node):
        yield path
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _axes_in(value, (*path, str(key)))


def _models(document: Document) -> list[Model]:
    models = document.merged.get("models")
    if not isinstance(models, dict) or not models:
        raise UsageError(f"{document.where(('models',))}: must name at least one model")
    for name in models:
        if not isinstance(name, str) or name in AXIS_KINDS:
            where = document.where(("models", str(name)))
            raise UsageError(
                f"{where}: a model's name must be text, and none of {', '.join(AXIS_KINDS)}"
            )
    return [Model(name, document) for name in models]


def _check_shared_parameters(document: Document, models: Sequence[Model]) -> None:
    """Parameters for all models need only be those of some."""
    known = list(dict.fromkeys(k for m in models for k in parameters_model(m.process).model_fields))
    for key in document.merged.get("parameters", {}):
        if key not in known:
            where = document.where(("parameters", str(key)))
            raise UsageError(f"{where}: {unknown_key(str(key), known)}")


def _check_labels(document: Document, variants: Sequence[ModelVariant]) -> None:
    """Reports tell models apart by their labels and numbers of steps."""
    seen: set[tuple[str, int]] = set()
    for variant in variants:
        if (key := (variant.label, variant.steps)) in seen:
            where = document.where(("models", variant.model))
            raise UsageError(f"{where}: another model is also called {variant.label!r}; rename it")
        seen.add(key)
