"""The sections of a search space but `search`, and what each key allows."""

import inspect
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from kod_bench.data import DatasetOptions
from kod_bench.networks import ARCHITECTURES, VARIANTS, Padding, UNet, UseFast
from kod_bench.sweeps.space.evaluation import EvaluationOptions
from kod_bench.sweeps.space.limits import (
    MAX_ITERATIONS,
    MAX_MINUTES,
    MAX_WIDTH,
    MAX_WORKERS,
    BatchSize,
    Count,
    Iterations,
    Name,
    PositiveFloat,
    Section,
    Seed,
    Small,
    Workers,
)
from kod_bench.sweeps.space.search_options import SearchOptions

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
        padding: what convolutions see beyond the edge: "zeros"; or what is next to it on maps of
            the "sphere", or across it in a periodic box, the "torus".
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
    parameters: dict[str, Any] = Field(default_factory=dict)
    search: SearchOptions = SearchOptions()
    evaluation: EvaluationOptions = EvaluationOptions()
    resources: ResourceOptions = ResourceOptions()
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_distinct)] = (0,)

    @model_validator(mode="after")
    def _workers_share_the_batch(self) -> Self:
        check_shares(self.training, self.resources)
        return self
