"""Gradients of one batch, taken whole or in parts that need less memory."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from kod_bench.diffusion import Predictor, TrainingBatch


def accumulate_gradients(
    predict: Predictor,
    batch: TrainingBatch,
    micro_batch_size: int,
    without_exchange: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Tensor:
    """Add the gradients of ``mean(weight (prediction - target)^2)`` to those of the weights.

    Parts of the batch go forward and backward one after the other, each loss scaled by its share
    of the samples: the sum is the whole batch's loss and gradient, up to the order of summation.
    Only one part's activations are in memory at a time.

    Args:
        predict: the network.
        batch: (B, C, H, W) states with what belongs to them.
        micro_batch_size: samples per part, at least 1; the last part may be smaller.
        without_exchange: entered for all parts but the last. Under DDP its `no_sync`: workers
            exchange the sum once.

    Returns:
        The loss of the whole batch, a detached scalar.
    """
    count = len(batch.state)
    done, total = 0, batch.state.new_zeros(())
    for part in _parts(batch, micro_batch_size):
        done += len(part.state)
        with nullcontext() if done == count else without_exchange():
            prediction = predict(part.state, part.step)
            loss = (part.weight * (prediction - part.target).square()).mean()
            loss = loss * (len(part.state) / count)
            loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def _parts(batch: TrainingBatch, size: int) -> Iterator[TrainingBatch]:
    count = len(batch.state)
    if size >= count:
        yield batch
        return
    # A weight that is one number for all samples goes with every part.
    weight = batch.weight
    per_sample = weight.ndim == batch.target.ndim and len(weight) == count
    for first in range(0, count, size):
        part = slice(first, first + size)
        yield TrainingBatch(
            batch.state[part],
            batch.step[part],
            batch.target[part],
            weight[part] if per_sample else weight,
        )
