"""Training batches from running forward chains, for a process that has no closed form for x_t."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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


def staggered_steps(steps: int, count: int, offset: float) -> Tensor:
    """Spread `count` times evenly over 1..T: ``1 + floor((j + offset) T / count)``.

    One from each of so many equal parts. With an offset uniform on [0, 1) every t is expected
    count / T times, exactly.

    Returns:
        (count,) int64 on the CPU, descending, in 1..T.
    """
    parts = torch.arange(count - 1, -1, -1, dtype=torch.float64) + offset
    # The product can round up to T when the offset is nearly 1.
    return 1 + (parts * (steps / max(count, 1))).to(torch.int64).clamp_max(steps - 1)


@dataclass
class Slice:
    """A batch of chains between two turns: all that the pool remembers of them."""

    chains: Tensor
    """(B, ...), on the device."""
    steps: Tensor
    """(B,) int64 on the CPU: the t that each has reached."""


class ChainPool(Iterator[TrainingBatch]):
    """Batches for ever from a pool of forward chains, each at its own t.

    The pool is cut into slices of one batch. A turn takes one slice n = `chain_steps` steps on and
    yields it, then the next slice is due: a training step costs at most n forward steps per sample,
    whatever T. A chain that has no n steps left makes way for one of a fresh image, whose first
    visit is at a t drawn from 1..n (1..T if that is less).

    So t is uniform on 1..T, at every turn and over any length of time, for every pool, batch and n.
    If it is at one turn, then at the next a t above n is expected as often as t - n was; and with a
    share n / T of the chains that began anew, spread over n values, so is each t up to n. The first
    visits of a slice are spread over 1..T. What is drawn depends on no image and no noise: given t,
    a chain is a forward chain of t steps. With n = T or more every chain begins anew at every turn,
    and samples are independent of those before. Times that are drawn together are spread evenly
    (`staggered_steps`), so that a batch has about as many chains in each part of 1..T.

    What it costs. Memory: the pool holds `pool_size` chains, or one batch if n is at least T.
    Set-up: a slice first runs to its t, T / 2 steps per chain, when its first turn comes. Forward
    steps per sample: n (1 - (n - 1) / (2 T)) on average. Correlation: a chain is seen again after
    pool_size / batch_size turns, n steps on; k turns see about pool_size + k batch_size n / T
    different images. A larger pool puts more turns between two visits and brings more images at
    the start, but no more with every turn; more steps do.

    Args:
        start: makes new chains.
        advance: makes one forward step.
        visit: makes a batch of chains that have arrived.
        steps: T.
        batch_size: samples per batch.
        pool_size: chains, rounded up to a multiple of the batch size.
        generator: gives the seed from which times are drawn; its device is where steps are sent.
        chain_steps: n.

    Attributes:
        slices: those that have had their first turn.
        turn: how many turns there have been; slice ``turn % slice_count`` is due.
        times: draws the times, on the CPU: how many chains begin anew must be known without
            waiting for the device.

    Raises:
        ValueError: if batch_size, pool_size or chain_steps is not positive.
    """

    def __init__(
        self,
        start: Start,
        advance: Advance,
        visit: Visit,
        *,
        steps: int,
        batch_size: int,
        pool_size: int,
        generator: torch.Generator,
        chain_steps: int = 1,
    ) -> None:
        check_count("batch_size", batch_size)
        check_count("pool_size", pool_size)
        check_count("chain_steps", chain_steps)
        self._start, self._advance, self._visit = start, advance, visit
        self._steps, self._batch_size = steps, batch_size
        self._stride = min(chain_steps, steps)
        self._device = generator.device
        self.slice_count = 1 if self._stride == steps else -(-pool_size // batch_size)
        self.slices: list[Slice] = []
        self.turn = 0
        seed = torch.randint(2**31, (), generator=generator, device=self._device).item()
        self.times = torch.Generator().manual_seed(int(seed))

    def __next__(self) -> TrainingBatch:
        index = self.turn % self.slice_count
        if index == len(self.slices):
            steps = self._draw_steps(self._steps, self._batch_size)
            chains = self._walk(self._start(self._batch_size), steps, steps)
            self.slices.append(Slice(chains, steps))
        else:
            self.slices[index] = self._next_visit(self.slices[index])
        self.turn += 1
        current = self.slices[index]
        # The copy keeps the slice private: on the CPU, to() would hand out the same memory.
        return self._visit(current.chains, current.steps.clone().to(self._device))

    def state_dict(self) -> dict[str, Any]:
        """All chains with their t, the turn, and the stream of times; see `ResumableBatches`."""
        return {
            "chains": [each.chains for each in self.slices],
            "steps": [each.steps for each in self.slices],
            "turn": self.turn,
            "times": self.times.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of a pool of equal size.

        Raises:
            ValueError: if it is of another size, of another T, or damaged.
        """
        turn, chains, steps = state.get("turn"), state.get("chains"), state.get("steps")
        is_sound = (
            isinstance(turn, int)
            and isinstance(chains, list)
            and isinstance(steps, list)
            and len(chains) == len(steps) == min(turn, self.slice_count)
            and all(map(self._is_slice, chains, steps))
        )
        if not is_sound:
            raise ValueError(
                f"no state of a pool of {self.slice_count} x {self._batch_size} chains of "
                f"{self._steps} steps"
            )
        self.times.set_state(state["times"])
        self.turn = int(state["turn"])
        self.slices = [
            Slice(chain.to(self._device), step) for chain, step in zip(chains, steps, strict=True)
        ]

    def _is_slice(self, chains: object, steps: object) -> bool:
        return (
            isinstance(chains, Tensor)
            and isinstance(steps, Tensor)
            and len(chains) == self._batch_size
            and steps.shape == (self._batch_size,)
            and steps.dtype == torch.int64
            and bool(((steps >= 1) & (steps <= self._steps)).all())
        )

    def _next_visit(self, before: Slice) -> Slice:
        """The slice at its next turn: chains that have gone on, then those that began anew."""
        stays = (before.steps + self._stride <= self._steps).nonzero().squeeze(1)
        begin = self._batch_size - len(stays)
        if not begin:
            steps = before.steps + self._stride
            ahead = torch.full_like(steps, self._stride)
            return Slice(self._walk(before.chains, steps, ahead), steps)
        first = self._draw_steps(self._stride, begin)
        chains = self._start(begin)
        if len(stays):
            chains = torch.cat([before.chains.index_select(0, stays.to(self._device)), chains])
        ahead = torch.cat([torch.full_like(stays, self._stride), first])
        steps = torch.cat([before.steps[stays] + self._stride, first])
        return Slice(self._walk(chains, steps, ahead), steps)

    def _draw_steps(self, steps: int, count: int) -> Tensor:
        offset = torch.rand((), generator=self.times, dtype=torch.float64).item()
        return staggered_steps(steps, count, offset)

    def _walk(self, chains: Tensor, steps: Tensor, ahead: Tensor) -> Tensor:
        """Make each chain's last `ahead` steps up to its t.

        All arrive together: a chain with less to go joins later. `ahead` descends, so those under
        way are always the first ones.
        """
        under_way = ahead.bincount().flip(0).cumsum(0).tolist()
        target = steps.to(self._device)
        moving = chains[:0]
        for left, count in zip(range(int(ahead[0]), 0, -1), under_way, strict=False):
            if count > len(moving):
                moving = torch.cat([moving, chains[len(moving) : count]])
            moving = self._advance(moving, target[:count] - (left - 1))
        return moving
