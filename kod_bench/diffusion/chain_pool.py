"""Training batches from running forward chains, for a process that has no closed form for x_t."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_count
from kod_bench.diffusion.process import TrainingBatch

#: `start(n)` gives n chains at t = 0: (n, ...), whatever a chain must remember.
Start = Callable[[int], Tensor]

#: `advance(chains, step)` makes step t (B,) int64 of each chain: from x_{t-1} to x_t. Returns the
#: chains after it. Must not modify its arguments.
Advance = Callable[[Tensor, Tensor], Tensor]

#: `visit(chains, step)` poses the regression problem at the chains' t (B,) int64. Its receiver may
#: write into the batch, which must share no memory with the chains.
Visit = Callable[[Tensor, Tensor], TrainingBatch]


def staggered_ages(steps: int, batch_size: int, offset: float) -> Tensor:
    """Spread the ages of one batch of chains evenly over a chain's life.

    Chain j of B gets the age ``floor((j + offset) T / B)``: one draw from each of B equal strata
    of 0..T-1. With a uniform offset in [0, 1) the batch's ages are uniform in expectation, and
    never leave a stratum empty.

    Returns:
        (B,) int64 on the CPU, ascending, in 0..T-1.
    """
    strata = torch.arange(batch_size, dtype=torch.float64) + offset
    # The product can round up to T when the offset is nearly 1.
    return (strata * (steps / batch_size)).to(torch.int64).clamp_max(steps - 1)


def chain_batches(
    start: Start,
    advance: Advance,
    visit: Visit,
    *,
    steps: int,
    batch_size: int,
    pool_size: int,
    generator: torch.Generator,
    chain_steps: int = 1,
) -> Iterator[TrainingBatch]:
    """Yield batches for ever from a pool of forward chains, each at its own step t.

    The pool is cut into slices of one batch. A turn advances one slice by `chain_steps` steps and
    yields it, then the next slice is due: a training step costs so many forward steps per sample,
    whatever T. A chain that has reached T begins again from a fresh image with its next step. Each
    slice keeps its t spread evenly over 1..T (`staggered_ages`), so every batch does.

    What it costs. Memory: the pool holds `pool_size` chains. Set-up: a slice first runs to its
    ages, T/2 steps per chain, when its first turn comes. Correlation: a chain is seen again after
    pool_size / batch_size turns, `chain_steps` steps on; n turns see about
    pool_size + n batch_size chain_steps / T different images. A larger pool puts more turns between
    two visits and brings more images at the start, but no more with every turn; more steps do.

    Args:
        start: makes new chains.
        advance: makes one forward step.
        visit: makes a batch of chains that have arrived.
        steps: T.
        batch_size: samples per batch.
        pool_size: chains, rounded up to a multiple of the batch size.
        generator: draws the staggering; its device is where steps are sent.
        chain_steps: forward steps per turn.

    Raises:
        ValueError: if batch_size, pool_size or chain_steps is not positive.
    """
    check_count("batch_size", batch_size)
    check_count("pool_size", pool_size)
    check_count("chain_steps", chain_steps)
    # Checks above run at the call; what follows runs at the first next().
    return _turns(start, advance, visit, steps, batch_size, pool_size, generator, chain_steps)


def _turns(
    start: Start,
    advance: Advance,
    visit: Visit,
    steps: int,
    batch_size: int,
    pool_size: int,
    generator: torch.Generator,
    chain_steps: int,
) -> Iterator[TrainingBatch]:
    device = generator.device
    chains: list[Tensor] = []
    # Ages stay on the CPU: how many chains restart is known without waiting for the device.
    ages: list[Tensor] = []
    slices = -(-pool_size // batch_size)
    while True:
        for index in range(slices):
            if index == len(chains):
                offset = torch.rand((), generator=generator, device=device).item()
                ages.append(staggered_ages(steps, batch_size, offset))
                chains.append(_run_to_ages(start(batch_size), ages[index], advance, device))
            current, age = chains[index], ages[index]
            for _ in range(chain_steps):
                finished = (age == steps).nonzero().squeeze(1)
                if len(finished):
                    fresh = start(len(finished))
                    current = current.index_copy(0, finished.to(device), fresh)
                    age[finished] = 0
                age += 1
                current = advance(current, age.to(device))
            chains[index] = current
            # The copy keeps `ages` private: on the CPU, to() would hand out the same memory.
            yield visit(current, age.clone().to(device))


def _run_to_ages(chains: Tensor, ages: Tensor, advance: Advance, device: torch.device) -> Tensor:
    """Advance each chain from t = 0 to its age; ages ascend, so the unfinished are a tail."""
    for step in range(1, int(ages[-1]) + 1):
        first = int(torch.searchsorted(ages, step))
        tail = torch.full((len(ages) - first,), step, dtype=torch.int64, device=device)
        chains = torch.cat([chains[:first], advance(chains[first:], tail)])
    return chains
