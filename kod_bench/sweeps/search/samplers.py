"""Optuna's samplers and distributions, by what a search space says."""

import json
import warnings
from typing import TYPE_CHECKING, Any

from kod_bench.sweeps.space import SearchOptions
from kod_bench.sweeps.space.axes import Axis

if TYPE_CHECKING:  # half a second, which other sweeps need not wait for
    from optuna import Trial
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

#: CMA-ES begins at the best tenth of what it is given, which must be one at least.
_WARM_START = 10

_PLAIN = (bool, int, float, str)


def make_sampler(options: SearchOptions, seed: int, earlier: "list[FrozenTrial]") -> "BaseSampler":
    """The sampler that a space asks for.

    Args:
        options: which, and how.
        seed: of its own draws. Equal seeds draw equal points: it must differ after a resume.
        earlier: complete trials of the study that an earlier process has run. CMA-ES, whose state
            is not kept, begins at their distribution.
    """
    import optuna

    settings: dict[str, Any] = options.sampler_settings.model_dump(exclude_none=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if options.sampler == "tpe":
            return optuna.samplers.TPESampler(seed=seed, **settings)
        if options.sampler == "gp":
            return optuna.samplers.GPSampler(seed=seed, **settings)
        if options.sampler == "cmaes":
            if earlier := _of_one_numeric_space(earlier):
                settings = {k: v for k, v in settings.items() if k != "sigma0"}
                settings |= {"source_trials": earlier, "n_startup_trials": 1}
            return optuna.samplers.CmaEsSampler(
                seed=seed, warn_independent_sampling=False, **settings
            )
        return optuna.samplers.RandomSampler(seed=seed)


def _of_one_numeric_space(trials: "list[FrozenTrial]") -> "list[FrozenTrial]":
    """The trials, if CMA-ES can begin at them: all with the same keys, none of them a choice."""
    from optuna.distributions import CategoricalDistribution

    spaces = {tuple(sorted(trial.distributions)) for trial in trials}
    choices = any(
        isinstance(each, CategoricalDistribution)
        for trial in trials
        for each in trial.distributions.values()
    )
    fits = len(trials) >= _WARM_START and len(spaces) == 1 and spaces != {()} and not choices
    return trials if fits else []


def distribution(axis: Axis) -> "BaseDistribution":
    """An axis as Optuna has it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.kind == "choice":
        return CategoricalDistribution([to_parameter(axis, value) for value in axis.values])
    if axis.kind != "int":
        return FloatDistribution(axis.low, axis.high, log=axis.kind == "loguniform")
    low, high = int(axis.low), int(axis.rounded(axis.high))
    if axis.log and axis.step > 1:  # which Optuna does not have together
        return FloatDistribution(low, high, log=True)
    return IntDistribution(low, high, log=axis.log, step=axis.step)


def suggest(trial: "Trial", name: str, axis: Axis) -> Any:
    """Let a trial of Optuna's choose a value of an axis."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    wanted: Any = distribution(axis)
    chosen: Any
    if isinstance(wanted, CategoricalDistribution):
        chosen = trial.suggest_categorical(name, wanted.choices)
    elif isinstance(wanted, IntDistribution):
        chosen = trial.suggest_int(name, wanted.low, wanted.high, step=wanted.step, log=wanted.log)
    else:
        chosen = trial.suggest_float(name, wanted.low, wanted.high, log=wanted.log)
    if axis.kind != "choice":
        return axis.rounded(chosen)
    return next(value for value in axis.values if to_parameter(axis, value) == chosen)


def to_parameter(axis: Axis, value: Any) -> Any:
    """A value of an axis as a parameter of Optuna's, which are numbers, text and the like."""
    if axis.kind == "choice" and not all(isinstance(each, _PLAIN) for each in axis.values):
        return json.dumps(value)
    return value
