"""Training batches from running forward chains, for a process that has no closed form for x_t."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_count
from kod_bench.diffusion.process import TrainingBatch

#: `start(n)` gives n chains at t = 0: (n, ...), whatever a chain must remember.
Start = Callable[[int], Tensor]

#: `walk(chains, step, count)` makes the steps t + 1..t + count of each chain, where t (B,) int64 is
#: where it is; one whose t is negative stands still until t = 0. Returns the chains after it. Must
#: not modify its arguments.
Walk = Callable[[Tensor, Tensor, int], Tensor]

#: `visit(chains, step)` poses the regression problem at the chains' t (B,) int64. Its receiver may
#: write into the batch, which must share no memory with the chains.
Visit = Callable[[Tensor, Tensor], TrainingBatch]

_Ranks = TypeVar("_Ranks", int, Tensor)

#: Slices that walk together, at most: so many fewer calls take a batch.
_TOGETHER = 8
#: Pixels that walk together, at most: a device that is busy gains nothing by more, and each takes
#: some 50 numbers meanwhile.
_PIXELS_TOGETHER = 2**22
#: Steps in a row between which no chain joins those under way.
_STRETCH = 8


def staggered_steps(steps: int, count: int, offset: int) -> Tensor:
    """Spread `count` times evenly over 1..T: ``1 + floor(((j T + offset) mod (count T)) / count)``.

    With an offset uniform on 0..count T - 1 each of them is uniform on 1..T, exactly; together
    there is one in each of so many equal parts.

    Returns:
        (count,) int64 on the CPU, in 1..T.
    """
    staggered: Tensor = 1 + _staggered(torch.arange(count), steps, count, offset)
    return staggered


def _staggered(rank: _Ranks, steps: int, count: int, offset: int) -> _Ranks:
    """Of numbers j, one or a tensor of them: in whole numbers, so that all devices agree."""
    place: _Ranks = (rank * steps + offset) % max(1, count * steps)
    spread: _Ranks = place // max(1, count)
    return spread


@dataclass
class Slice:
    """Chains that walk together, between two walks: all that the pool remembers of them.

    They belong to several batches: every so many-th one to the same.
    """

    chains: Tensor
    """(B, ...), on the device."""
    steps: Tensor
    """(B,) int64, on the device: the t that each has reached."""
    known: list[int]
    """The same on the host, which must know how many begin anew without asking the device."""


class ChainPool(Iterator[TrainingBatch]):
    """Batches for ever from a pool of forward chains, each at its own t.

    The pool is cut into batches, which are visited in turn. Between two visits a chain makes
    n = `chain_steps` steps: a training step costs at most n forward steps per sample, whatever T.
    A chain that has no n steps left makes way for one of a fresh image, whose first visit is at a t
    drawn from 1..n (1..T if that is less). The chains of several batches walk together, just before
    the first of them is due, in one tensor: a step costs a device nearly as much for one batch.

    So t is uniform on 1..T, at every turn and over any length of time, for every pool, batch and n.
    If it is at one turn, then at the next a t above n is expected as often as t - n was; and with a
    share n / T of the chains that began anew, spread over n values, so is each t up to n. The first
    visits of a batch are spread over 1..T. What is drawn depends on no image and no noise: given t,
    a chain is a forward chain of t steps. With n = T or more every chain begins anew at every turn,
    and samples are independent of those before. Times that are drawn together are spread evenly
    (`staggered_steps`), so that a batch has about as many chains in each part of 1..T.

    What it costs. Memory: the pool holds `pool_size` chains, or one batch if n is at least T.
    Set-up: chains first run to their t, T / 2 steps each, when their first turn comes. Forward
    steps per sample: n (1 - (n - 1) / (2 T)) on average. Correlation: a chain is seen again after
    pool_size / batch_size turns, n steps on; k turns see about pool_size + k batch_size n / T
    different images. A larger pool puts more turns between two visits and brings more images at
    the start, but no more with every turn; more steps do. No turn waits for the device: t is there
    and, by the same arithmetic of whole numbers, on the host.

    Args:
        start: makes new chains.
        walk: makes forward steps.
        visit: makes a batch of chains that have arrived.
        steps: T.
        batch_size: samples per batch.
        pool_size: chains, rounded up to a multiple of the batch size.
        generator: its device is where chains are, its seed is that of the times.
        chain_steps: n.
        pixels: of one state, to bound what walks together.

    Attributes:
        slice_count: batches in the pool.
        together: batches that walk together.
        slices: those that have had their first turn.
        turn: how many turns there have been.
        seed: of the times; those drawn at a turn are a function of it and the turn alone.

    Raises:
        ValueError: if batch_size, pool_size or chain_steps is not positive.
    """

    def __init__(
        self,
        start: Start,
        walk: Walk,
        visit: Visit,
        *,
        steps: int,
        batch_size: int,
        pool_size: int,
        generator: torch.Generator,
        chain_steps: int = 1,
        pixels: int = 1,
    ) -> None:
        check_count("batch_size", batch_size)
        check_count("pool_size", pool_size)
        check_count("chain_steps", chain_steps)
        self._start, self._walk, self._visit = start, walk, visit
        self._steps, self._batch_size = steps, batch_size
        self._stride = min(chain_steps, steps)
        self._device = generator.device
        self.slice_count = 1 if self._stride == steps else -(-pool_size // batch_size)
        fitting = max(1, _PIXELS_TOGETHER // (batch_size * pixels))
        self.together = min(_TOGETHER, self.slice_count, fitting)
        self.slices: list[Slice] = []
        self.turn = 0
        self.seed = generator.initial_seed()

    def __next__(self) -> TrainingBatch:
        index, batch = divmod(self.turn % self.slice_count, self.together)
        if batch == 0:
            self._prepare(index)
        self.turn += 1
        current = self.slices[index]
        mine = slice(batch, None, len(current.steps) // self._batch_size)
        # Copies: what the receiver writes must not reach the pool.
        return self._visit(current.chains[mine].clone(), current.steps[mine].clone())

    def _prepare(self, index: int) -> None:
        """Bring a slice to where its next turns are."""
        if index < len(self.slices):
            self.slices[index] = self._gone_on(self.slices[index])
            return
        count = self._batch_size * min(self.together, self.slice_count - index * self.together)
        offset = self._offset(count * self._steps)
        ranks = torch.arange(count, device=self._device)
        steps = 1 + _staggered(ranks, self._steps, count, offset)
        known = [1 + _staggered(rank, self._steps, count, offset) for rank in range(count)]
        chains = self._walk_to(self._start(count), steps, steps, known)
        self.slices.append(Slice(chains, steps, known))

    def _gone_on(self, before: Slice) -> Slice:
        """The slice n steps later, with chains that begin anew for those that had too few left."""
        stride, last = self._stride, self._steps - self._stride
        begin = sum(step > last for step in before.known)
        offset = self._offset(begin * stride)
        first = (1 + _staggered(rank, stride, begin, offset) for rank in range(begin))
        known_ahead = [next(first) if step > last else stride for step in before.known]
        known = [
            more if step > last else step + more
            for step, more in zip(before.known, known_ahead, strict=True)
        ]
        chains, anew = before.chains, before.steps > last
        place = (anew.cumsum(0) - 1).clamp_min(0)
        ahead = torch.where(anew, 1 + _staggered(place, stride, begin, offset), stride)
        steps = torch.where(anew, 0, before.steps) + ahead
        if begin:
            shape = (-1, *[1] * (chains.ndim - 1))
            chains = torch.where(anew.view(shape), self._start(begin)[place], chains)
        return Slice(self._walk_to(chains, steps, ahead, known_ahead), steps, known)

    def _offset(self, below: int) -> int:
        return random.Random(f"{self.seed} {self.turn}").randrange(max(1, below))

    def _walk_to(
        self, chains: Tensor, steps: Tensor, ahead: Tensor, known: Sequence[int]
    ) -> Tensor:
        """Make each chain's last `ahead` steps up to its t.

        All arrive together: a chain with less to go joins later. Those with more to go come first
        meanwhile, so that those under way are always the first ones.
        """
        most = max(known)
        if min(known) > most - _STRETCH:
            return self._walk(chains, steps - most, most)
        order = ahead.argsort(descending=True, stable=True)
        chains, steps = chains[order], steps[order]
        left = most
        while left:
            count = min(left, _STRETCH) if left % _STRETCH == 0 else left % _STRETCH
            under_way = sum(step > left - count for step in known)
            walked = self._walk(chains[:under_way], steps[:under_way] - left, count)
            chains[:under_way] = walked
            left -= count
        return torch.empty_like(chains).index_copy_(0, order, chains)

    def state_dict(self) -> dict[str, Any]:
        """All chains with their t, the turn, and the seed of the times. Not copied."""
        return {
            "chains": [each.chains for each in self.slices],
            "steps": [each.steps for each in self.slices],
            "turn": self.turn,
            "seed": self.seed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of a pool of equal size.

        Raises:
            ValueError: if it is of another size, of another T, or damaged.
        """
        turn: Any = state.get("turn")
        chains: Any = state.get("chains")
        steps: Any = state.get("steps")
        is_sound = (
            isinstance(turn, int)
            and isinstance(state.get("seed"), int)
            and isinstance(chains, list)
            and isinstance(steps, list)
            and len(chains) == len(steps) == self._slices_after(turn)
            and all(map(self._is_slice, range(len(chains)), chains, steps))
        )
        if not is_sound:
            raise ValueError(
                f"no state of a pool of {self.slice_count} x {self._batch_size} chains of "
                f"{self._steps} steps"
            )
        self.turn, self.seed = int(state["turn"]), int(state["seed"])
        self.slices = [
            Slice(chain.to(self._device), step.to(self._device), step.tolist())
            for chain, step in zip(chains, steps, strict=True)
        ]

    def _slices_after(self, turn: int) -> int:
        return -(-min(turn, self.slice_count) // self.together)

    def _is_slice(self, index: int, chains: object, steps: object) -> bool:
        count = self._batch_size * min(self.together, self.slice_count - index * self.together)
        return (
            isinstance(chains, Tensor)
            and isinstance(steps, Tensor)
            and len(chains) == count
            and steps.shape == (count,)
            and steps.dtype == torch.int64
            and bool(((steps >= 1) & (steps <= self._steps)).all())
        )
