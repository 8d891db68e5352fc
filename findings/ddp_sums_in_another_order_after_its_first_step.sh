#!/usr/bin/env bash
# DistributedDataParallel of torch 2.15.0 over gloo, three or four workers: the gradient of one batch at equal
# weights has other bits in a wrapper's second backward pass than in its first. After the first it makes its
# buckets anew, in the order in which gradients came, and where a number lies in its bucket decides in which
# order gloo adds the workers' values up. With two workers a sum has one order, and all bits agree. So a training
# that was stopped and started again, everything restored, leaves the undisturbed one at its first step, by
# rounding; nothing in a checkpoint can prevent it. A pass that counts for nothing before the first step does.
# Seen: "2 workers: equal", "3 workers: other bits", "4 workers: other bits".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6
cat >"$folder/buckets.py" <<'PY'
import os
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def network():
    torch.manual_seed(0)
    return nn.Sequential(*[nn.Linear(700, 700) for _ in range(6)])


def gradients(model, rank, step):
    """One step's averaged gradient; inputs depend on rank and step alone."""
    model.zero_grad(set_to_none=True)
    inputs = torch.randn(8, 700, generator=torch.Generator().manual_seed(100 * step + rank))
    model(inputs).square().sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def worker(rank, world, store, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    going_on = DistributedDataParallel(network())
    gradients(going_on, rank, 1)
    later = gradients(going_on, rank, 2)  # weights were not changed: nothing but the step before
    begun_here = gradients(DistributedDataParallel(network()), rank, 2)
    if rank == 0:
        queue.put((int((later != begun_here).sum()), later.numel()))
    dist.destroy_process_group()


if __name__ == "__main__":
    for world in (2, 3, 4):
        with tempfile.TemporaryDirectory() as folder:
            queue = mp.get_context("spawn").SimpleQueue()
            mp.spawn(worker, (world, os.path.join(folder, "store"), queue), nprocs=world)
            differing, total = queue.get()
            print(f"{world} workers: {'equal' if not differing else 'other bits'}")
            assert (differing > 0) == (world > 2), (world, differing, total)
PY
"$folder/venv/bin/python" "$folder/buckets.py"
