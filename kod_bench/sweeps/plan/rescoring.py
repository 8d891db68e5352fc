"""From trials that are trained to trials that score the same models in other ways."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kod_bench.errors import UsageError
from kod_bench.evaluation import choose_extractor
from kod_bench.sweeps.plan.make import canonical_json, plain_options
from kod_bench.sweeps.plan.needed_plugins import needed_plugins
from kod_bench.sweeps.plan.reuse import Reused
from kod_bench.sweeps.plan.trial import Scoring, Trial
from kod_bench.sweeps.space import EvaluationOptions, ResourceOptions, merge
from kod_bench.sweeps.space.document import parse_changes
from kod_bench.sweeps.space.likelihoods import why_not
from kod_bench.sweeps.space.messages import dotted, first_error, unknown_key
from kod_bench.sweeps.space.variants import check_parameters

_Options = TypeVar("_Options", bound=BaseModel)

_SECTIONS: dict[str, type[BaseModel]] = {
    "evaluation": EvaluationOptions,
    "resources": ResourceOptions,
}


@dataclass(frozen=True)
class Rescoring:
    """How models are to be scored; what is None, or not said, stays as it was.

    Attributes:
        changes: of the sections `evaluation` and `resources`, by key.
        priors: to sample from.
        samplers: to sample with.
        network_evaluations: to sample in.
    """

    changes: Mapping[str, Mapping[str, Any]]
    priors: tuple[str, ...] | None = None
    samplers: tuple[str, ...] | None = None
    network_evaluations: tuple[int, ...] | None = None

    @classmethod
    def of(cls, changes: Sequence[str], **ways: Any) -> "Rescoring":
        """From the command line.

        Args:
            changes: ``path=value`` pairs.
            ways: the other attributes.

        Raises:
            UsageError: if they change what a trained model cannot change.
        """
        nested = parse_changes(changes, {name: {} for name in _SECTIONS})
        for section, keys in nested.items():
            if section not in _SECTIONS:
                raise UsageError(
                    f"--set {section}: the models are trained already; rescore changes "
                    f"{' and '.join(_SECTIONS)} alone"
                )
            if not isinstance(keys, dict):
                raise UsageError(f"--set {section}: name one of its keys, as in {section}.KEY=...")
            known = list(_SECTIONS[section].model_fields)
            for key in keys:
                if key not in known:
                    raise UsageError(f"--set {section}.{key}: {unknown_key(key, known)}")
        return cls(nested, **ways)

    def resources(self, before: ResourceOptions) -> ResourceOptions:
        """What each trial occupies.

        Raises:
            UsageError: if a value is not allowed.
        """
        return _changed(before, "resources", self.changes)

    def evaluation(self, before: dict[str, Any]) -> dict[str, Any]:
        """The options of scoring, the extractor chosen.

        Raises:
            UsageError: if a value is not allowed.
        """
        options = EvaluationOptions.model_validate_json(json.dumps(before), strict=True)
        changed = _changed(options, "evaluation", self.changes)
        features, _ = choose_extractor(changed.features)
        return plain_options(changed.model_copy(update={"features": features}))

    def ways(self, trial: Trial) -> list[Scoring]:
        """How a trial's model is sampled.

        Raises:
            UsageError: if its process cannot be sampled so.
        """
        if self.priors is None and self.samplers is None and self.network_evaluations is None:
            return trial.scorings
        before = trial.scorings
        priors = self.priors or tuple(dict.fromkeys(each.prior for each in before))
        samplers = self.samplers or tuple(dict.fromkeys(each.sampler for each in before))
        numbers = self.network_evaluations or tuple(
            dict.fromkeys(each.network_evaluations for each in before)
        )
        said = trial.parameters | {
            "steps": trial.steps,
            "priors": priors,
            "samplers": samplers,
            "network_evaluations": numbers,
        }
        try:
            check_parameters(trial.process, said)
        except ValidationError as error:
            raise UsageError(
                f"{trial.model}: {first_error(error, EvaluationOptions)[1]}"
            ) from error
        except ValueError as error:
            raise UsageError(
                f"{trial.model}, {trial.steps} steps: {error}; other models are chosen with "
                "--model or --where"
            ) from error
        return [
            Scoring(prior, sampler, evaluations)
            for prior in priors
            for sampler in samplers
            for evaluations in numbers
        ]


def rescored(
    trials: Sequence[tuple[Trial, Reused]], rescoring: Rescoring, code: str
) -> tuple[Trial, ...]:
    """Trials that score the models of others.

    Args:
        trials: the others, and what is taken from each.
        rescoring: how.
        code: version and hash of the code that plans it.

    Raises:
        UsageError: if a model cannot be scored so, or a value is not allowed.
    """
    evaluation = functools.cache(lambda text: rescoring.evaluation(json.loads(text)))
    plugins = functools.cache(needed_plugins)
    made = []
    for trial, reused in trials:
        options = evaluation(canonical_json(trial.evaluation))
        _check_likelihood(trial, options)
        names = (trial.process, str(trial.dataset["name"]), str(options["features"]))
        made.append(
            replace(
                trial,
                evaluation=options,
                sampling=[asdict(way) for way in rescoring.ways(trial)],
                code=code,
                plugins=[each.identity() for each in plugins(*names)],
                reuse=reused.values,
            )
        )
    return tuple({trial.config_hash: trial for trial in made}.values())


def _check_likelihood(trial: Trial, options: dict[str, Any]) -> None:
    said = EvaluationOptions.model_validate_json(json.dumps(options), strict=True)
    if (reason := why_not(trial.process, trial.steps, trial.parameters, said)) is not None:
        raise UsageError(
            f"--set evaluation.likelihood: model {trial.model}: {reason}; other models are chosen "
            "with --model or --where"
        )


def is_chosen(trial: Trial, models: Sequence[str]) -> bool:
    """Whether a trial's model matches one of the patterns, in full or by its name in the space."""
    names = (trial.model, trial.model.split(" ")[0])
    return not models or any(fnmatchcase(name, each) for each in models for name in names)


def _changed(before: _Options, section: str, changes: Mapping[str, Mapping[str, Any]]) -> _Options:
    if not (said := changes.get(section)):
        return before
    values = merge(before.model_dump(mode="json"), said)
    try:
        return type(before).model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        where, message = first_error(error, type(before))
        raise UsageError(f"--set {dotted((section, *where))}: {message}") from error
