"""Search spaces: what a study varies, read from YAML and validated before anything runs."""

import difflib
import inspect
import itertools
import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)

from kod_bench.data import DatasetOptions
from kod_bench.diffusion import PROCESSES, DiffusionProcess
from kod_bench.errors import UsageError
from kod_bench.evaluation import check_extractor
from kod_bench.networks import ARCHITECTURES, VARIANTS, UNet, UseFast
from kod_bench.results import FORWARD_START
from kod_bench.sweeps.yaml_file import load_yaml

Count = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


#: What `UNet` takes beside what the data and the process decide, with its defaults.
UNET_SIZES = {
    name: parameter.default
    for name, parameter in inspect.signature(UNet).parameters.items()
    if parameter.default is not inspect.Parameter.empty
}


class NetworkOptions(_Section):
    """The network; see `kod_bench.networks.make_network`. Models may change it key by key.

    Resolved, the sizes are numbers for the architecture `unet` and None for the others; the
    variant, which None leaves to the default, is None for processes that are not on phases.
    """

    architecture: Literal[ARCHITECTURES] = "unet"  # type: ignore[valid-type]
    variant: Literal[tuple(VARIANTS)] | None = None  # type: ignore[valid-type]
    width: Annotated[int, Field(ge=2, multiple_of=2)] | None = None
    multipliers: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    blocks: Count | None = None
    attention: tuple[Count, ...] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _released_networks_have_their_sizes(self) -> Self:
        given = [name for name in UNET_SIZES if getattr(self, name) is not None]
        if self.architecture != "unet" and given:
            raise ValueError(
                f"architecture {self.architecture} has fixed sizes; leave out {', '.join(given)}"
            )
        return self

    def resolved(self, *, periodic: bool) -> "NetworkOptions":
        """With every default filled in, for a process on phases or another."""
        filled = self.arguments()
        if self.architecture == "unet":
            filled = UNET_SIZES | filled
        filled["variant"] = (self.variant or next(iter(VARIANTS))) if periodic else None
        return NetworkOptions(**filled)

    def arguments(self) -> dict[str, Any]:
        """As arguments of `kod_bench.networks.make_network`."""
        return self.model_dump(mode="json", exclude_none=True)

    def changed(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """A model's own keys over these; if they change the architecture, sizes stay behind."""
        inherited = self.arguments()
        if own.get("architecture", self.architecture) != self.architecture:
            inherited = {k: v for k, v in inherited.items() if k not in UNET_SIZES}
        return inherited | {k: v for k, v in own.items() if v is not None}


class TrainingSection(_Section):
    """The optimiser; see `kod_bench.training.TrainingOptions`."""

    iterations: Count
    batch_size: Count = 128
    learning_rate: PositiveFloat = 2e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Annotated[int, Field(ge=0)] = 100
    gradient_clip: PositiveFloat = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    checkpoint_every: Count = 1000
    log_every: Count = 50
    fast: UseFast = "auto"


class EvaluationOptions(_Section):
    """How a trained model is scored."""

    features: Annotated[str, AfterValidator(check_extractor)] = "efficientnet-lite0"
    samples: Annotated[int, Field(ge=2)] = 2048
    references: Annotated[int, Field(ge=2)] = 2048
    batch_size: Count = 128


class ResourceOptions(_Section):
    """What one trial occupies. More than one worker means DDP under Ray Train."""

    workers_per_trial: Count = 1
    cpus_per_worker: Count = 1
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0


class StudyOptions(_Section):
    """Everything but the models: one profile of a search space, resolved."""

    name: Name
    description: str = ""
    dataset: DatasetOptions
    network: NetworkOptions = NetworkOptions()
    training: TrainingSection
    evaluation: EvaluationOptions = EvaluationOptions()
    resources: ResourceOptions = ResourceOptions()
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)

    @model_validator(mode="after")
    def _workers_share_the_batch(self) -> Self:
        batch, workers = self.training.batch_size, self.resources.workers_per_trial
        if batch % workers:
            raise ValueError(
                f"training.batch_size {batch} cannot be shared by resources.workers_per_trial "
                f"{workers}; it must be a multiple"
            )
        return self


class ModelVariant(_Section):
    """One point of a model's grid."""

    label: str
    process: str
    steps: int
    parameters: dict[str, Any]
    priors: tuple[str, ...]
    samplers: tuple[str, ...]
    network_evaluations: tuple[int, ...]
    network: NetworkOptions  # resolved


class SearchSpace(_Section):
    """A resolved search space: options of one profile, and every model at every grid point."""

    options: StudyOptions
    variants: tuple[ModelVariant, ...]
    profile: str
    source: str


def find_space(name: str) -> Path:
    """Find a search space: as a path, in ``./search_spaces/``, then among the shipped ones.

    Raises:
        UsageError: if there is none; the message lists the known names.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        if Path(name).is_file():
            return Path(name)
        raise UsageError(f"{name}: no such search space file")
    shipped = _shipped_spaces()
    for folder in (Path("search_spaces"), shipped):
        if (path := folder / f"{name}.yaml").is_file():
            return path
    known = sorted({p.stem for f in (Path("search_spaces"), shipped) for p in f.glob("*.yaml")})
    raise UsageError(
        f"unknown search space {name!r}; known: {', '.join(known) or 'none'}, or a path to a YAML"
    )


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
        name: tuple(_variants(path, models, each.network)) for name, each in options.items()
    }
    return SearchSpace(
        options=options[profile],
        variants=variants[profile],
        profile=profile,
        source=str(path),
    )


def _shipped_spaces() -> Path:
    packaged = Path(str(files("kod_bench") / "search_spaces"))
    # In an editable install the folder stands beside the package, where the wheel copies it from.
    return packaged if packaged.is_dir() else packaged.parent.parent / "search_spaces"


def _validate_options(
    path: Path, document: Mapping[str, Any], prefix: str, overrides: Mapping[str, Any]
) -> StudyOptions:
    merged = _merge(document, overrides)
    try:
        # JSON in strict mode: no "50" for 50, no true for 1, but a list where a tuple is meant.
        return StudyOptions.model_validate_json(json.dumps(merged, default=str), strict=True)
    except ValidationError as error:
        where, message = _first_error(error, StudyOptions)
        if not where:
            raise UsageError(f"{path}: {prefix}: {message}") from error
        if _contains(overrides, where):
            where = (prefix, *where)
        raise UsageError(f"{path}: {_dotted(where)}: {message}") from error


def _variants(path: Path, models: Any, network: NetworkOptions) -> Iterator[ModelVariant]:
    if not isinstance(models, dict) or not models:
        raise UsageError(f"{path}: models: must name at least one model")
    for name, section in models.items():
        where = f"{path}: models.{name}"
        if not isinstance(section, dict):
            raise UsageError(f"{where}: must be a mapping with the key 'process'")
        process = section.get("process")
        if process not in PROCESSES:
            raise UsageError(
                f"{where}.process: {process!r} is not a process; known: {', '.join(PROCESSES)}"
            )
        own = section.get("network", {})
        if not isinstance(own, dict):
            raise UsageError(f"{where}.network: must be a mapping")
        # By path: ("steps",), ("network", "width").
        fixed: dict[tuple[str, ...], Any] = {
            (key,): value for key, value in section.items() if key not in ("process", "network")
        }
        fixed |= {("network", key): value for key, value in own.items()}
        axes = {
            k: _grid(f"{where}.{_dotted(k)}", v) for k, v in fixed.items() if isinstance(v, dict)
        }
        for point in itertools.product(*axes.values()):
            chosen = dict(zip(axes, point, strict=True))
            values = fixed | chosen
            yield _variant(
                where,
                " ".join([str(name), *_labels(chosen)]),
                process,
                {key[0]: v for key, v in values.items() if len(key) == 1},
                _network(
                    f"{where}.network",
                    process,
                    network,
                    {key[1]: v for key, v in values.items() if len(key) == 2},
                ),
            )


def _labels(chosen: Mapping[tuple[str, ...], Any]) -> list[str]:
    return [f"{_dotted(key)}={value}" for key, value in chosen.items() if key != ("steps",)]


def _network(
    where: str, process: str, common: NetworkOptions, own: dict[str, Any]
) -> NetworkOptions:
    periodic = PROCESSES[process].periodic
    if not periodic and own.get("variant") is not None:
        raise UsageError(
            f"{where}.variant: is for processes on phases; {process} is none, leave the key out"
        )
    try:
        text = json.dumps(common.changed(own), default=str)
        found = NetworkOptions.model_validate_json(text, strict=True)
    except ValidationError as error:
        location, message = _first_error(error, NetworkOptions)
        raise UsageError(f"{_dotted((where, *location))}: {message}") from error
    return found.resolved(periodic=periodic)


def _variant(
    where: str, label: str, process: str, values: dict[str, Any], network: NetworkOptions
) -> ModelVariant:
    model = parameters_model(process)
    try:
        parameters = model.model_validate_json(json.dumps(values, default=str), strict=True)
        resolved = parameters.model_dump(mode="json")
        steps = resolved.pop("steps")
        priors = resolved.pop("priors") or (PROCESSES[process].priors[0],)
        samplers = resolved.pop("samplers") or (PROCESSES[process].samplers[0],)
        evaluations = resolved.pop("network_evaluations") or (steps,)
        # Ranges are the process's own business: it is built once, and refuses what it must.
        built = PROCESSES[process](
            shape=(1, 8, 8),
            steps=steps,
            **parameters.model_dump(exclude={"steps", "priors", "samplers", "network_evaluations"}),
        )
        for prior in priors:
            if prior != FORWARD_START:
                _check_prior(built, prior)
        for sampler in samplers:
            built.check_sampler(sampler)
        for number in evaluations:
            built.step_subset(number)
    except ValidationError as error:
        location, message = _first_error(error, model)
        raise UsageError(f"{where}.{_dotted(location)}: {message}") from error
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    return ModelVariant(
        label=label,
        process=process,
        steps=steps,
        parameters=resolved,
        priors=tuple(dict.fromkeys(priors)),
        samplers=tuple(dict.fromkeys(samplers)),
        network_evaluations=tuple(dict.fromkeys(evaluations)),
        network=network,
    )


def _check_prior(process: DiffusionProcess, prior: str) -> None:
    try:
        process.check_prior(prior)
    except ValueError as error:
        raise ValueError(f"{error}, {FORWARD_START}") from None


def parameters_model(process: str) -> type[BaseModel]:
    """What a model of a search space may say: its process's parameters, and how it is sampled.

    One place says what a process takes: its constructor, whose signature is read here. Unknown
    names and wrong types are refused by the model made from it. `priors` and `samplers` (default:
    the process's first) and `network_evaluations` (default: T) are lists: the model is trained
    once, and scored from each prior with each sampler at each number.
    """
    fields: dict[str, Any] = {
        "priors": (Annotated[tuple[str, ...] | None, Field(min_length=1)], None),
        "samplers": (Annotated[tuple[str, ...] | None, Field(min_length=1)], None),
        "network_evaluations": (Annotated[tuple[Count, ...] | None, Field(min_length=1)], None),
    }
    for name, parameter in inspect.signature(PROCESSES[process]).parameters.items():
        if name != "shape":
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (parameter.annotation, default)
    return create_model(f"{process}Parameters", __base__=_Section, **fields)


def _grid(where: str, value: dict[Any, Any]) -> list[Any]:
    if set(value) != {"grid"} or not isinstance(value["grid"], list) or not value["grid"]:
        raise UsageError(f"{where}: must be a value or {{grid: [value, ...]}}")
    if len({json.dumps(v, default=str) for v in value["grid"]}) < len(value["grid"]):
        raise UsageError(f"{where}.grid: a value is given twice")
    return value["grid"]


def _merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overrides.items():
        old = merged.get(key)
        merged[key] = (
            _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return merged


def _contains(document: Mapping[str, Any], where: tuple[str | int, ...]) -> bool:
    node: Any = document
    for key in where:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _first_error(
    error: ValidationError, model: type[BaseModel]
) -> tuple[tuple[str | int, ...], str]:
    # A misspelt key before the key that it leaves missing.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    where = first["loc"]
    if first["type"] == "missing":
        return where, "this key is required"
    if first["type"] == "value_error" and isinstance(first["input"], dict):
        # A rule of ours about several keys of a section.
        return where, first["msg"].removeprefix("Value error, ")
    if first["type"] != "extra_forbidden":
        message = first["msg"].removeprefix("Value error, ")
        return where, f"{first['input']!r} is not allowed: {message}"
    section: Any = model
    for key in where[:-1]:
        section = section.model_fields[key].annotation
    allowed = list(section.model_fields)
    close = difflib.get_close_matches(str(where[-1]), allowed, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return where, f"unknown key; {hint}allowed: {', '.join(allowed)}"


def _dotted(where: tuple[str | int, ...]) -> str:
    return ".".join(map(str, where))
