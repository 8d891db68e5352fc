"""The section `search`: strategies, their samplers, and early stopping."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from kod_bench.evaluation import METRICS
from kod_bench.results import LIKELIHOOD_UNITS
from kod_bench.sweeps.space.limits import (
    MAX_BATCH,
    MAX_RUNGS,
    Count,
    Iterations,
    PositiveFloat,
    Samples,
    Section,
    Seed,
)


class TpeOptions(Section):
    """Of `optuna.samplers.TPESampler`, where they are described."""

    n_startup_trials: Count = 10  # drawn independently before it learns
    n_ei_candidates: Annotated[int, Field(ge=1, le=MAX_BATCH)] = 24
    group: bool = False
    constant_liar: bool = True  # trials that run are no good: those beside them look elsewhere


class CmaEsOptions(Section):
    """Of `optuna.samplers.CmaEsSampler`."""

    n_startup_trials: Count = 1
    sigma0: PositiveFloat | None = None
    popsize: Annotated[int, Field(ge=2, le=MAX_BATCH)] | None = None


class GaussianProcessOptions(Section):
    """Of `optuna.samplers.GPSampler`."""

    n_startup_trials: Count = 10
    deterministic_objective: bool = False


#: Optuna's samplers by the name that a space says, with what it may say of them.
SAMPLERS: dict[str, type[Section]] = {
    "tpe": TpeOptions,
    "random": Section,
    "cmaes": CmaEsOptions,
    "gp": GaussianProcessOptions,
}

#: What a search can go by, and whether low or high is good: columns of rows, likelihoods among
#: them, and the wall time of sampling over the number of samples.
OBJECTIVES: dict[str, Literal["min", "max"]] = {
    **{
        column: "min" if metric.better == "lower" else "max"
        for metric in METRICS
        for column in metric.columns
        if metric.better is not None
    },
    **dict.fromkeys(LIKELIHOOD_UNITS, "min"),
    "seconds_per_sample": "min",
}

#: Those of fields of angles.
ANGLE_COLUMNS = frozenset(
    c for metric in METRICS if metric.needs == "angles" for c in metric.columns
)

#: What early stopping can go by: columns that few samples of an unfinished model have.
RUNG_METRICS = ("kid", *(name for name in OBJECTIVES if name in ANGLE_COLUMNS))

_WITHOUT_DIRECTION = {c for metric in METRICS if metric.better is None for c in metric.columns}


class AshaOptions(Section):
    """Asynchronous successive halving; see `kod_bench.sweeps.search.early_stopping`.

    Attributes:
        min_iterations: the first rung; None for ``iterations / reduction_factor^2``.
        reduction_factor: of the trials at a rung one in so many goes on, and the next rung is so
            many times as far.
        samples: behind the value of a rung, at most as many as a full evaluation's.
    """

    min_iterations: Iterations | None = None
    reduction_factor: Annotated[int, Field(ge=2, le=MAX_RUNGS)] = 4
    samples: Samples = 256

    def rungs(self, end: int) -> tuple[int, ...]:
        """The iterations at which a training of `end` is judged."""
        rung = self.min_iterations or max(1, end // self.reduction_factor**2)
        found = []
        while rung < end:
            found.append(rung)
            rung *= self.reduction_factor
        return tuple(found)


class MedianOptions(Section):
    """The median rule; see `kod_bench.sweeps.search.early_stopping`.

    Attributes:
        min_iterations: the first rung; None for a tenth of all.
        interval: from each rung to the next; None for as many as to the first.
        startup_trials: so many at a rung go on whatever they have.
        samples: behind the value of a rung, at most as many as a full evaluation's.
    """

    min_iterations: Iterations | None = None
    interval: Iterations | None = None
    startup_trials: Count = 4
    samples: Samples = 256

    def rungs(self, end: int) -> tuple[int, ...]:
        """The iterations at which a training of `end` is judged.

        Raises:
            ValueError: if there are more than `MAX_RUNGS`.
        """
        first = self.min_iterations or max(1, end // 10)
        found = range(first, end, self.interval or first)
        if len(found) > MAX_RUNGS:
            raise ValueError(
                f"median judges a trial of {end} iterations {len(found):,} times; at most "
                f"{MAX_RUNGS:,}: say a longer interval"
            )
        return tuple(found)


Pruner = AshaOptions | MedianOptions

#: Rules of early stopping by the name that a space says; its options are under the same name.
PRUNERS: dict[str, type[Pruner]] = {"asha": AshaOptions, "median": MedianOptions}


class SearchOptions(Section):
    """Which configurations become trials; see `kod_bench.sweeps.space.strategies`.

    Attributes:
        strategy: "grid" takes every point of the grids; "random" draws what else varies, too;
            "optuna" chooses it by the results so far.
        trials: how many configurations "random" and "optuna" take at every grid point of every
            model that has something to draw.
        seed: of the draws.
        metric: what "optuna" goes by, of `OBJECTIVES`; of several, it looks for the best trade.
        mode: "min" or "max", for each metric; None for what is good of it.
        sampler: of `SAMPLERS`.
        sampler_options: of that sampler.
        early_stopping: of `PRUNERS`, or None: every trial is trained to its end.
        asha: how it stops.
        median: how it stops.
    """

    strategy: Literal["grid", "random", "optuna"] = "grid"
    trials: Count | None = None
    seed: Seed = 0
    metric: str | Annotated[tuple[str, ...], Field(min_length=1)] = "kid"
    mode: Literal["min", "max"] | tuple[Literal["min", "max"], ...] | None = None
    sampler: Literal[tuple(SAMPLERS)] = "tpe"  # type: ignore[valid-type]
    sampler_options: dict[str, Any] = Field(default_factory=dict)
    early_stopping: Literal[tuple(PRUNERS)] | None = None  # type: ignore[valid-type]
    asha: AshaOptions = AshaOptions()
    median: MedianOptions = MedianOptions()

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is gone by, one or several."""
        return (self.metric,) if isinstance(self.metric, str) else self.metric

    @property
    def pruner(self) -> Pruner | None:
        """The rule of early stopping, with its options; None if there is none."""
        found: Pruner | None = getattr(self, self.early_stopping) if self.early_stopping else None
        return found

    @property
    def sampler_settings(self) -> Section:
        """The sampler's options, defaults included."""
        return SAMPLERS[self.sampler].model_validate(self.sampler_options, strict=True)

    @model_validator(mode="after")
    def _trials_are_for_drawing(self) -> Self:
        if self.strategy != "grid" and self.trials is None:
            raise ValueError(
                f"strategy {self.strategy} needs trials: how many configurations it takes at every "
                "grid point"
            )
        if self.strategy == "grid" and self.trials is not None:
            raise ValueError(
                "trials is for strategies random and optuna; grid takes every point once, leave "
                "it out"
            )
        return self

    def _differs(self, name: str) -> bool:
        """Whether something else than the default is said; a resolved space says all of them."""
        default = type(self).model_fields[name].get_default(call_default_factory=True)
        return bool(getattr(self, name) != default)

    @model_validator(mode="after")
    def _learning_is_for_optuna(self) -> Self:
        said = [
            name for name in ("metric", "mode", "sampler", "sampler_options") if self._differs(name)
        ]
        if self.strategy != "optuna" and said:
            raise ValueError(f"{said[0]} is for strategy optuna, not {self.strategy}")
        return self

    @model_validator(mode="after")
    def _stops_what_is_drawn(self) -> Self:
        for name in PRUNERS:
            if self._differs(name) and self.early_stopping != name:
                raise ValueError(f"{name} is for early_stopping: {name}")
        if self.early_stopping is None:
            return self
        if self.strategy == "grid":
            raise ValueError("early_stopping is for strategies random and optuna")
        if len(self.metrics) > 1 or self.metrics[0] not in RUNG_METRICS:
            raise ValueError(
                f"early_stopping goes by one metric of few samples; metric must be one of "
                f"{', '.join(RUNG_METRICS)}"
            )
        return self

    @model_validator(mode="after")
    def _goes_by_something(self) -> Self:
        for name in self.metrics:
            if name in _WITHOUT_DIRECTION:
                raise ValueError(
                    f"metric {name!r} cannot be searched by: neither low nor high is good; "
                    f"possible: {', '.join(OBJECTIVES)}"
                )
            if name not in OBJECTIVES:
                raise ValueError(f"metric {name!r} is unknown; known: {', '.join(OBJECTIVES)}")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("metric: one is given twice")
        good = tuple(OBJECTIVES[name] for name in self.metrics)
        modes = (self.mode,) if isinstance(self.mode, str) else self.mode
        if modes is not None and modes != good:
            each = ", ".join(f"{n} {m}" for n, m in zip(self.metrics, good, strict=True))
            raise ValueError(f"mode must say what is good of each metric: {each}; or leave it out")
        return self

    @model_validator(mode="after")
    def _sampler_knows_its_options(self) -> Self:
        if self.sampler == "cmaes" and len(self.metrics) > 1:
            raise ValueError("sampler cmaes goes by one metric; for several: tpe, gp or random")
        try:
            _ = self.sampler_settings
        except ValidationError as error:
            first = error.errors()[0]
            names = ", ".join(SAMPLERS[self.sampler].model_fields) or "none"
            key = ".".join(map(str, first["loc"]))
            message = "unknown key" if first["type"] == "extra_forbidden" else f"{first['msg']}"
            raise ValueError(
                f"sampler_options.{key}: {message}; sampler {self.sampler} has: {names}"
            ) from None
        return self
