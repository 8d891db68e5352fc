"""All that is random in one worker's training, so that it can be put away and taken up again."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kod_bench.diffusion import DiffusionProcess, TrainingBatch
from kod_bench.diffusion.batches import ResumableBatches
from kod_bench.errors import one_line
from kod_bench.seeds import derive_seed
from kod_bench.training.images import ShuffledImages
from kod_bench.training.ranks import rank_and_world, sum_over_ranks

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Position:
    """Where a training draws.

    Attributes:
        seed: of the training.
        rank: of this worker.
        iteration: from which it trains. One that goes on without its streams must not draw again
            what it drew at the start.
    """

    seed: int
    rank: int
    iteration: int


@dataclass(frozen=True)
class Unlogged:
    """Losses of iterations that a longer training would log together with later ones.

    Attributes:
        after: the last iteration that is logged for good.
        loss_sum: of those since, of this rank, a scalar.
    """

    after: int
    loss_sum: Tensor


class Streams:
    """One rank's images, training batches and dropout, each with a random stream of its own.

    Dropout draws from torch's global generators, so one object is in use at a time; the caller
    keeps them from others (`torch.random.fork_rng`).

    Args:
        process: the rank's share of it.
        images: (N, C, H, W) uint8 training images.
        batch_size: samples per batch, of this rank.
        augment: random changes of the images; see `ShuffledImages`.
        position: of the streams.
        device: where it trains.

    Attributes:
        source: draws the images.
        batches: the training batches.
        device: where it trains.
        unlogged: of a checkpoint between two lines of the history.
    """

    def __init__(
        self,
        process: DiffusionProcess,
        images: Tensor,
        batch_size: int,
        augment: Sequence[str],
        position: Position,
        device: torch.device,
    ) -> None:
        def stream(name: str) -> int:
            return derive_seed(position.seed, name, position.rank, position.iteration)

        torch.manual_seed(stream("dropout"))
        self.device = device
        self._generators = {
            name: torch.Generator(device).manual_seed(stream(name))
            for name in ("images", "process")
        }
        self.source = ShuffledImages(images, self._generators["images"], augment)
        self.batches: Iterator[TrainingBatch] = process.training_batches(
            self.source, batch_size, self._generators["process"]
        )
        self.unlogged: Unlogged | None = None

    def state_dict(self) -> dict[str, Any] | None:
        """What the next draws depend on, not copied; None if the process does not say."""
        if not isinstance(self.batches, ResumableBatches):
            return None
        state: dict[str, Any] = {
            "device": self.device.type,
            "order": self.source.order,
            "batches": self.batches.state_dict(),
            "dropout": torch.get_rng_state(),
            "unlogged": None if self.unlogged is None else vars(self.unlogged),
            **{name: each.get_state() for name, each in self._generators.items()},
        }
        if self.device.type == "cuda":
            state["dropout-cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def load_state_dict(self, state: object) -> None:
        """Go on where another one of equal arguments was.

        Raises:
            ValueError: if that is not possible; this one must not be used any more.
        """
        if not isinstance(state, dict) or not isinstance(self.batches, ResumableBatches):
            raise ValueError("it holds no random streams")
        if state.get("device") != self.device.type:
            raise ValueError(f"its random streams are of a {state.get('device')}")
        try:
            self.batches.load_state_dict(state["batches"])
            self.source.order = state["order"]
            for name, each in self._generators.items():
                each.set_state(state[name])
            torch.set_rng_state(state["dropout"])
            if (unlogged := state["unlogged"]) is not None:
                self.unlogged = Unlogged(int(unlogged["after"]), unlogged["loss_sum"].reshape(()))
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(state["dropout-cuda"], self.device)
        except (KeyError, TypeError, RuntimeError, AttributeError) as error:
            raise ValueError(f"its random streams are damaged: {one_line(error)}") from None


def can_go_on(streams: Streams, states: object) -> bool:
    """Take up a checkpoint's streams on every rank, or say on every rank that it cannot be.

    Args:
        streams: of this rank; of no use if the answer is no.
        states: what a checkpoint has of them, one for each rank; None of an earlier version.
    """
    rank, world = rank_and_world()
    problem = ""
    try:
        if not isinstance(states, list):
            raise ValueError("the checkpoint holds no random streams")
        if len(states) != world:
            raise ValueError(f"its random streams are of {len(states)} worker(s), not of {world}")
        streams.load_state_dict(states[rank])
    except ValueError as error:
        problem = str(error)
        _log.warning("this training is another than an uninterrupted one: %s", problem)
    return sum_over_ranks(int(bool(problem)), streams.device) == 0


def gather_states(streams: Streams) -> list[Any] | None:
    """The streams of all ranks, on rank 0; None if they cannot be taken up, and on the others."""
    rank, world = rank_and_world()
    state = streams.state_dict()
    if world == 1:
        return None if state is None else [state]
    states: list[Any] | None = [None] * world if rank == 0 else None
    dist.gather_object(on_host(state), states)
    return None if states is None or None in states else states


def host_copy(value: Any) -> Any:
    """Tensors within dictionaries and lists copied to the host's memory; the rest as it is."""
    return _each_tensor(value, lambda tensor: tensor.detach().to("cpu", copy=True))


def on_host(value: Any) -> Any:
    """Tensors within dictionaries and lists in the host's memory, and no more than they show."""

    def moved(tensor: Tensor) -> Tensor:
        # torch would write all that is behind a view.
        is_view = tensor.untyped_storage().nbytes() > tensor.nbytes
        return tensor.to("cpu", copy=is_view)

    return _each_tensor(value, moved)


def _each_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _each_tensor(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_each_tensor(each, change) for each in value)
    return value
