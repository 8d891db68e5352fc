"""The sections of a search space, and what each key allows."""

import inspect
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from kod_bench.data import DatasetOptions
from kod_bench.evaluation import METRICS, check_extractor
from kod_bench.networks import ARCHITECTURES, VARIANTS, Padding, UNet, UseFast

#: Far above what anybody trains, samples or draws today, and below what a machine dies of: a zero
#: too many is refused with the bound. docs/search-spaces.md states them.
MAX_ITERATIONS = 100_000_000
MAX_BATCH = 65_536
MAX_SAMPLES = 1_000_000
MAX_WIDTH = 4096
MAX_WORKERS = 10_000
MAX_MINUTES = 10 * 366 * 24 * 60
#: How often early stopping may judge one trial.
MAX_RUNGS = 1000
#: Rows keep seeds in 64 bits.
MAX_SEED = 2**63 - 1

Count = Annotated[int, Field(ge=1)]
Iterations = Annotated[int, Field(ge=1, le=MAX_ITERATIONS)]
BatchSize = Annotated[int, Field(ge=1, le=MAX_BATCH)]
Samples = Annotated[int, Field(ge=2, le=MAX_SAMPLES)]
Workers = Annotated[int, Field(ge=1, le=MAX_WORKERS)]
Small = Annotated[int, Field(ge=1, le=64)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
PositiveFloat = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$")]


class Section(BaseModel):
    """A mapping of a search space: no unknown keys, no infinite numbers, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


#: What `UNet` takes beside what the data and the process decide, with its defaults.
UNET_SIZES = {
    name: parameter.default
    for name, parameter in inspect.signature(UNet).parameters.items()
    if parameter.default is not inspect.Parameter.empty
}


class NetworkOptions(Section):
    """The network; see `kod_bench.networks.make_network`. Models may change it key by key.

    Resolved, the sizes are numbers for the architecture `unet` and None for the others; the
    variant, which None leaves to the default, is None for processes that are not on phases.

    Attributes:
        architecture: "unet", or one of the papers' released networks, whose sizes are fixed.
        variant: how a network sees phases: "periodic", "periodic-in" or "raw-angle". Only for
            processes on phases; None for the first.
        width: channels of the first level.
        multipliers: of the width, one for each level; each level after the first halves the image.
        blocks: residual blocks of each level.
        attention: heights of the feature maps, in pixels, that have self-attention.
        dropout: share of the activations that training leaves out.
        padding: what convolutions see beyond the edge: "zeros", or on maps of the sphere what is
            next to it there.
    """

    architecture: Literal[ARCHITECTURES] = "unet"  # type: ignore[valid-type]
    variant: Literal[tuple(VARIANTS)] | None = None  # type: ignore[valid-type]
    width: Annotated[int, Field(ge=2, le=MAX_WIDTH, multiple_of=2)] | None = None
    multipliers: Annotated[tuple[Small, ...], Field(min_length=1, max_length=10)] | None = None
    blocks: Small | None = None
    attention: Annotated[tuple[Count, ...], Field(max_length=10)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    padding: Literal[get_args(Padding)] | None = None  # type: ignore[valid-type]

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


class TrainingSection(Section):
    """The optimiser; see `kod_bench.training.TrainingOptions`.

    Attributes:
        iterations: updates of the weights.
        batch_size: images of an update, all workers together.
        learning_rate: of AdamW, after the warm-up.
        weight_decay: of AdamW.
        warmup: iterations in which the learning rate rises from 0.
        gradient_clip: largest norm of an update's gradient.
        ema_decay: of the moving average of the weights, which is what is scored.
        checkpoint_every: iterations from one checkpoint to the next.
        log_every: iterations from one line of the history to the next.
        fast: "auto", true or false: whether the network runs compiled and in lower precision.
        micro_batch_size: images that one worker has in memory at once; None for its whole share.
    """

    iterations: Iterations
    batch_size: BatchSize = 128
    learning_rate: PositiveFloat = 2e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Annotated[int, Field(ge=0, le=MAX_ITERATIONS)] = 100
    gradient_clip: PositiveFloat = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    checkpoint_every: Iterations = 1000
    log_every: Iterations = 50
    fast: UseFast = "auto"
    micro_batch_size: BatchSize | None = None  # of one worker; None: its whole share of the batch


class EvaluationOptions(Section):
    """How a trained model is scored.

    Attributes:
        features: the extractor: "auto", "inception", "efficientnet-lite0", or your own as
            ``my_module:MyExtractor``.
        samples: images that are drawn from the model, each way of sampling.
        references: held-out images that they are compared with, at most.
        batch_size: images that are drawn, or looked at, at once.
    """

    features: Annotated[str, AfterValidator(check_extractor)] = "efficientnet-lite0"
    samples: Samples = 2048
    references: Samples = 2048
    batch_size: BatchSize = 128


def _part_or_whole(gpus: float) -> float:
    if gpus > 1 and gpus != int(gpus):
        raise ValueError("must be a part of one GPU, or whole ones")
    return gpus


class ResourceOptions(Section):
    """What one trial occupies, and for how long. More than one worker is DDP under Ray Train.

    Attributes:
        workers_per_trial: processes that train one model together.
        cpus_per_worker: CPU cores of each.
        gpus_per_worker: GPUs of each; 0.5 puts two on one GPU.
        time_limit_minutes: of one attempt of a trial; resume begins another.
    """

    workers_per_trial: Workers = 1
    cpus_per_worker: Workers = 1
    gpus_per_worker: Annotated[
        float, Field(ge=0, le=MAX_WORKERS), AfterValidator(_part_or_whole)
    ] = 0
    time_limit_minutes: Annotated[float, Field(gt=0, le=MAX_MINUTES)] | None = (
        None  # of one attempt; resume begins another
    )


def check_shares(training: TrainingSection, resources: ResourceOptions) -> None:
    """Refuse a batch that the workers of a trial cannot share evenly.

    Raises:
        ValueError: with both numbers.
    """
    batch, workers = training.batch_size, resources.workers_per_trial
    if batch % workers:
        raise ValueError(
            f"training.batch_size {batch} cannot be shared by resources.workers_per_trial "
            f"{workers}; it must be a multiple"
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

#: What a search can go by, and whether low or high is good: columns of rows, and the wall time of
#: sampling over the number of samples.
OBJECTIVES: dict[str, Literal["min", "max"]] = {
    **{
        column: "min" if metric.better == "lower" else "max"
        for metric in METRICS
        for column in metric.columns
        if metric.better is not None
    },
    "seconds_per_sample": "min",
}

_WITHOUT_DIRECTION = {c for metric in METRICS if metric.better is None for c in metric.columns}


class AshaOptions(Section):
    """Asynchronous successive halving; see `kod_bench.sweeps.search.early_stopping`.

    Attributes:
        min_iterations: the first rung; None for ``iterations / reduction_factor^2``.
        reduction_factor: of the trials at a rung one in so many goes on, and the next rung is so
            many times as far.
        samples: behind the KID of a rung, at most as many as a full evaluation's.
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
        samples: behind the KID of a rung, at most as many as a full evaluation's.
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
    sampler_options: dict[str, Any] = {}
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
        return bool(getattr(self, name) != type(self).model_fields[name].default)

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
        if self.metrics != ("kid",):
            raise ValueError("early_stopping goes by KID; metric must be kid")
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


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed is given twice")
    return seeds


class StudyOptions(Section):
    """Everything but the models: one profile of a search space, resolved.

    Where a key varies, it is here at the first of its values.
    """

    name: Name
    description: str = ""
    dataset: DatasetOptions
    network: NetworkOptions = NetworkOptions()
    training: TrainingSection
    parameters: dict[str, Any] = {}
    search: SearchOptions = SearchOptions()
    evaluation: EvaluationOptions = EvaluationOptions()
    resources: ResourceOptions = ResourceOptions()
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_distinct)] = (0,)

    @model_validator(mode="after")
    def _workers_share_the_batch(self) -> Self:
        check_shares(self.training, self.resources)
        return self
