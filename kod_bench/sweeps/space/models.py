"""The models of a search space, at every point of their grids."""

import inspect
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, create_model

from kod_bench.diffusion import PROCESSES, DiffusionProcess
from kod_bench.errors import UsageError
from kod_bench.results import FORWARD_START
from kod_bench.sweeps.space.messages import dotted, first_error
from kod_bench.sweeps.space.options import Count, NetworkOptions, Section


class ModelVariant(Section):
    """One point of a model's grid."""

    label: str
    process: str
    steps: int
    parameters: dict[str, Any]
    priors: tuple[str, ...]
    samplers: tuple[str, ...]
    network_evaluations: tuple[int, ...]
    network: NetworkOptions  # resolved


def model_variants(path: Path, models: Any, network: NetworkOptions) -> Iterator[ModelVariant]:
    """Every model at every point of its grid."""
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
            k: _grid(f"{where}.{dotted(k)}", v) for k, v in fixed.items() if isinstance(v, dict)
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
    return [f"{dotted(key)}={value}" for key, value in chosen.items() if key != ("steps",)]


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
        location, message = first_error(error, NetworkOptions)
        raise UsageError(f"{dotted((where, *location))}: {message}") from error
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
        location, message = first_error(error, model)
        raise UsageError(f"{where}.{dotted(location)}: {message}") from error
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
    return create_model(f"{process}Parameters", __base__=Section, **fields)


def _grid(where: str, value: dict[Any, Any]) -> list[Any]:
    if set(value) != {"grid"} or not isinstance(value["grid"], list) or not value["grid"]:
        raise UsageError(f"{where}: must be a value or {{grid: [value, ...]}}")
    if len({json.dumps(v, default=str) for v in value["grid"]}) < len(value["grid"]):
        raise UsageError(f"{where}.grid: a value is given twice")
    return value["grid"]
