"""The sections of a search space, and what each key allows."""

import inspect
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from kod_bench.data import DatasetOptions
from kod_bench.evaluation import check_extractor
from kod_bench.networks import ARCHITECTURES, VARIANTS, Padding, UNet, UseFast

Count = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$")]


class Section(BaseModel):
    """A mapping of a search space: unknown keys are refused, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    """

    architecture: Literal[ARCHITECTURES] = "unet"  # type: ignore[valid-type]
    variant: Literal[tuple(VARIANTS)] | None = None  # type: ignore[valid-type]
    width: Annotated[int, Field(ge=2, multiple_of=2)] | None = None
    multipliers: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    blocks: Count | None = None
    attention: tuple[Count, ...] | None = None
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
    micro_batch_size: Count | None = None  # of one worker; None: its whole share of the batch


class EvaluationOptions(Section):
    """How a trained model is scored."""

    features: Annotated[str, AfterValidator(check_extractor)] = "efficientnet-lite0"
    samples: Annotated[int, Field(ge=2)] = 2048
    references: Annotated[int, Field(ge=2)] = 2048
    batch_size: Count = 128


class ResourceOptions(Section):
    """What one trial occupies, and for how long. More than one worker is DDP under Ray Train."""

    workers_per_trial: Count = 1
    cpus_per_worker: Count = 1
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    time_limit_minutes: PositiveFloat | None = None  # of one attempt; resume begins another


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


class SearchOptions(Section):
    """Which configurations become trials; see `kod_bench.sweeps.space.strategies`.

    Attributes:
        strategy: "grid" takes every point of the grids; "random" draws what else varies, too.
        trials: how many configurations "random" draws at every grid point of every model that
            draws something.
        seed: of the draws.
    """

    strategy: Literal["grid", "random"] = "grid"
    trials: Count | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _trials_are_for_drawing(self) -> Self:
        if self.strategy == "random" and self.trials is None:
            raise ValueError(
                "strategy random needs trials: how many configurations it draws at every grid point"
            )
        if self.strategy == "grid" and self.trials is not None:
            raise ValueError(
                "trials is for strategy random; grid takes every point once, leave it out"
            )
        return self


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
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)

    @model_validator(mode="after")
    def _workers_share_the_batch(self) -> Self:
        check_shares(self.training, self.resources)
        return self
