"""What the workers of one training tell each other, beside gradients. One process tells nobody."""

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from kod_bench.diffusion import Predictor


def rank_and_world() -> tuple[int, int]:
    """The number of this worker, from 0, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def sum_over_ranks(count: int, device: torch.device) -> int:
    """A whole number, summed. Chains of one may end when those of another do not."""
    if rank_and_world()[1] == 1:
        return count
    total = torch.tensor(count, dtype=torch.int64, device=device)
    dist.all_reduce(total)
    return int(total.item())


def from_first(state: dict[str, Any] | None) -> dict[str, Any] | None:
    """Rank 0's checkpoint, on every rank.

    Ranks that read the disk for themselves can find different files, and would then train on from
    different iterations.
    """
    if rank_and_world()[1] == 1:
        return state
    box = [state]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def settle_buckets(
    predict: Predictor, model: nn.Module, count: int, shape: tuple[int, int, int]
) -> None:
    """Have three or more workers add gradients up in one order from the first step on.

    DistributedDataParallel (torch 2.15) exchanges gradients in buckets, which it makes anew after
    its first step, in the order in which gradients came. Where a number lies in its bucket decides
    in which order the workers' are added, so the step after a start would not be the step that
    goes before it in a training without interruption. A step that counts for nothing comes first.
    Two numbers have one sum.

    Args:
        predict: runs the model.
        model: wrapped.
        count: samples that it takes at once.
        shape: (C, H, W) of a state.
    """
    device = next(model.parameters()).device
    if rank_and_world()[1] <= 2:
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        state = torch.zeros(count, *shape, device=device)
        predict(state, torch.ones(count, dtype=torch.int64, device=device)).sum().backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)
