"""One point of a model: every key has one value, and all of them are checked together."""

import contextlib
import functools
import inspect
import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, PydanticUserError, create_model

from kod_bench.data import DatasetOptions
from kod_bench.diffusion import DiffusionProcess, find_process
from kod_bench.errors import UsageError, one_line
from kod_bench.results import FORWARD_START
from kod_bench.sweeps.space.limits import Count, Section
from kod_bench.sweeps.space.options import NetworkOptions, TrainingSection

_Options = TypeVar("_Options", bound=BaseModel)

#: The largest whole number that a parameter of a process may be: T, images, chains, pixels.
MAX_WHOLE = 100_000

#: What a model may say beside its process's parameters.
SCORING = ("priors", "samplers", "network_evaluations")

#: Tried in turn. Twice as wide as high: a process on the sphere takes nothing else, and others take
#: anything; but a plug-in's may want squares, or colours.
_SHAPES = ((1, 8, 16), (1, 16, 16), (3, 16, 16), (1, 32, 32), (3, 32, 32))


class ModelVariant(Section):
    """One point of a model's axes, resolved and validated."""

    model: str  # its name in the search space
    label: str  # that name and the point: what reports compare
    group: str  # the name and the grid point: draws at one grid point have it in common
    drawn: dict[str, Any]  # what was drawn, by dotted path
    point: dict[str, Any]  # what varies, likewise
    process: str
    steps: int
    parameters: dict[str, Any]
    priors: tuple[str, ...]
    samplers: tuple[str, ...]
    network_evaluations: tuple[int, ...]
    dataset: DatasetOptions
    network: NetworkOptions  # resolved
    training: TrainingSection


class Parameters(Section):
    """The process of one point.

    Attributes:
        values: of the process's own parameters, defaults included, without `steps`, as its
            `identity_of` has them.
        steps: T.
        priors: to sample from.
        samplers: to sample with.
        network_evaluations: to sample in.
    """

    values: dict[str, Any]
    steps: int
    priors: tuple[str, ...]
    samplers: tuple[str, ...]
    network_evaluations: tuple[int, ...]


@functools.cache
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
    signature = inspect.signature(find_process(process), eval_str=True)
    for name, parameter in signature.parameters.items():
        if name != "shape":
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            kind = parameter.annotation
            if kind in (int, int | None):  # most are sizes, and the process is built to be checked
                kind = Annotated[kind, Field(le=MAX_WHOLE)]
            fields[name] = (kind, default)
    try:
        return create_model(f"{process}Parameters", __base__=Section, **fields)
    except PydanticUserError as error:  # of a plug-in: a type that no search space can say
        raise UsageError(
            f"process {process!r}: its parameters cannot be validated: {one_line(error)}"
        ) from error


def validated(options: type[_Options], values: Mapping[str, Any]) -> _Options:
    """Options from plain values. Equal values are validated once: a large space repeats them.

    Raises:
        pydantic.ValidationError: on a key, a type or a value that is not allowed.
    """
    found: _Options = _validated(options, json.dumps(values, default=str))
    return found


# JSON in strict mode: no "50" for 50, no true for 1, but a list where a tuple is meant.
@functools.lru_cache(maxsize=4096)
def _validated(options: type[_Options], text: str) -> _Options:
    return options.model_validate_json(text, strict=True)


def check_parameters(process: str, values: Mapping[str, Any]) -> Parameters:
    """Resolve the parameters of a process, and check that they go together.

    Raises:
        pydantic.ValidationError: on a key or a type that is not allowed.
        ValueError: on values out of range; ranges are the process's own business, which is built
            once and refuses what it must.
    """
    return _checked(process, json.dumps(values, default=str))


@functools.lru_cache(maxsize=4096)
def _checked(process: str, text: str) -> Parameters:
    given = parameters_model(process).model_validate_json(text, strict=True)
    resolved = given.model_dump(mode="json")
    steps = resolved.pop("steps")
    process_class = find_process(process)
    priors = resolved.pop("priors") or (process_class.priors[0],)
    samplers = resolved.pop("samplers") or (process_class.samplers[0],)
    evaluations = resolved.pop("network_evaluations") or (steps,)
    own = given.model_dump(exclude={"steps", *SCORING})
    built = process_class(shape=small_shape(process_class), steps=steps, **own)
    for prior in priors:
        if prior != FORWARD_START:
            _check_prior(built, prior)
    for sampler in samplers:
        for number in evaluations:
            built.step_subset(number, sampler)
    return Parameters(
        values=process_class.identity_of(resolved),
        steps=steps,
        priors=tuple(dict.fromkeys(priors)),
        samplers=tuple(dict.fromkeys(samplers)),
        network_evaluations=tuple(dict.fromkeys(evaluations)),
    )


def small_shape(process: type[DiffusionProcess]) -> tuple[int, int, int]:
    """A small shape of images that a process takes, if it takes any."""
    for shape in _SHAPES:
        with contextlib.suppress(ValueError):
            process.check_shape(shape)
            return shape
    return _SHAPES[0]


def _check_prior(process: DiffusionProcess, prior: str) -> None:
    try:
        process.check_prior(prior)
    except ValueError as error:
        raise ValueError(f"{error}, {FORWARD_START}") from None
