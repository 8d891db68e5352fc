"""From a search space to the trials of its plan."""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel

import kod_bench
from kod_bench.data import DatasetOptions
from kod_bench.results.provenance import code_hash
from kod_bench.sweeps.plan.needed_plugins import needed_plugins
from kod_bench.sweeps.plan.trial import Scoring, Trial
from kod_bench.sweeps.space import ModelVariant, SearchSpace


def current_code() -> str:
    """Version and source hash of the code that runs now."""
    return f"{kod_bench.__version__}+{code_hash()}"


def make_trials(
    space: SearchSpace, data_hash: str | Mapping[DatasetOptions, str]
) -> tuple[Trial, ...]:
    """Expand a search space into trials, one seed of every model before the next seed.

    An interrupted sweep then has complete comparisons at fewer seeds rather than fewer models.

    Args:
        space: resolved.
        data_hash: of the images; of each data set, where the space has several.
    """
    options = space.options
    code = current_code()
    plain = functools.cache(plain_options)  # large spaces repeat their sections
    trials = [
        make_trial(
            variant,
            seed,
            data_hash=data_hash if isinstance(data_hash, str) else data_hash[variant.dataset],
            evaluation=plain(options.evaluation),
            workers=options.resources.workers_per_trial,
            code=code,
            plain=plain,
        )
        for seed in options.seeds
        for variant in space.variants
    ]
    return tuple({trial.config_hash: trial for trial in trials}.values())


def make_trial(
    variant: ModelVariant,
    seed: int,
    *,
    data_hash: str,
    evaluation: dict[str, Any],
    workers: int,
    code: str,
    plain: Callable[[BaseModel], dict[str, Any]] | None = None,
) -> Trial:
    """One variant with one seed.

    Args:
        variant: of a model.
        seed: of the training.
        data_hash: of the variant's images.
        evaluation: the scoring options.
        workers: of the trial.
        code: version and hash of the code that plans it.
        plain: makes plain values of options.
    """
    plain = plain or plain_options
    return Trial(
        model=variant.label,
        process=variant.process,
        steps=variant.steps,
        parameters=variant.parameters,
        dataset=plain(variant.dataset),
        data_hash=data_hash,
        network=plain(variant.network),
        training=plain(variant.training),
        evaluation=evaluation,
        sampling=[
            asdict(Scoring(prior, sampler, evaluations))
            for prior in variant.priors
            for sampler in variant.samplers
            for evaluations in variant.network_evaluations
        ],
        workers=workers,
        seed=seed,
        code=code,
        plugins=[
            plugin.identity()
            for plugin in needed_plugins(
                variant.process, variant.dataset.name, str(evaluation["features"])
            )
        ],
    )


def plain_options(options: BaseModel) -> dict[str, Any]:
    """A section as plain values."""
    return options.model_dump(mode="json")


def canonical_json(values: Mapping[str, Any]) -> str:
    """Equal for equal values."""
    return json.dumps(values, sort_keys=True)
