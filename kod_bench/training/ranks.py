"""What the workers of one training tell each other, beside gradients. One process tells nobody."""

from typing import Any

import torch
import torch.distributed as dist


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
