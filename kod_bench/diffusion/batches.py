"""Iterators of training batches that can be put away and taken up again, to the bit."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from kod_bench.diffusion.process import TrainingBatch


@runtime_checkable
class ResumableBatches(Protocol):
    """What `DiffusionProcess.training_batches` returns if a resumed training is to leave no trace.

    Checkpoints hold its state. Those of the generator and of the image source, which it was made
    with, are the caller's: they are set after `load_state_dict`, and before the next batch.
    """

    def __next__(self) -> TrainingBatch:
        """The next batch."""
        ...

    def __iter__(self) -> Iterator[TrainingBatch]:
        """Itself."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that the batches to come depend on, as tensors and plain values.

        Not copied, and written while training goes on: batches to come must put other tensors in
        the place of these, never change them.
        """
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of another iterator that was made with equal arguments.

        Args:
            state: from `state_dict`; its tensors on the CPU, wherever they were.

        Raises:
            ValueError: if it is of other arguments, or none.
        """
        ...


class IndependentBatches(Iterator[TrainingBatch]):
    """Batches that depend on no earlier one: there is nothing to remember of them.

    Args:
        draw: makes a batch of nothing but the image source and the generator.
    """

    def __init__(self, draw: Callable[[], TrainingBatch]) -> None:
        self._draw = draw

    def __next__(self) -> TrainingBatch:
        return self._draw()

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check that there is nothing.

        Raises:
            ValueError: naming what there is.
        """
        if state:
            raise ValueError(f"batches that depend on no earlier one have no {', '.join(state)}")
