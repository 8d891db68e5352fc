"""Memory of the pool of forward chains, against T, image size, batch and pool size.

    python benchmarks/pool_memory.py

Per case, in a process of its own: `pool` is what the pool keeps between batches (bytes of live
tensors), beside the 60 C H W bytes per chain that are promised (8 with --target path); `peak` is by
how much making batches has raised the process's resident memory, the pool included; `set-up` is the
time of the first batch of every slice (each chain runs to its own t) over that of a later one.
"""

import argparse
import gc
import multiprocessing
import resource
import time
from itertools import islice, product

import torch

from kod_bench.diffusion import make_process

MIB = 2**20

#: Per pixel and chain.
BYTES = {"conditional": 60, "path": 8, "one-step": 8}


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 96])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--pools", type=int, nargs="+", default=[1024])
    parser.add_argument("--coupling", default="local")
    parser.add_argument("--target", choices=BYTES, default="conditional")
    options = parser.parse_args()
    names = ("T", "size", "batch", "pool", "promised MiB", "pool MiB", "peak MiB", "set-up")
    print(" ".join(f"{name:>12}" for name in names))
    spawn = multiprocessing.get_context("spawn")
    for case in product(options.steps, options.sizes, options.batches, options.pools):
        with spawn.Pool(1) as process:
            promised, live, peak, setup = process.apply(
                measure, (*case, options.coupling, options.target)
            )
        cells = [*map(str, case), f"{promised:.1f}", f"{live:.1f}", f"{peak:.1f}", f"{setup:.1f}"]
        print(" ".join(f"{cell:>12}" for cell in cells), flush=True)


def measure(
    steps: int, size: int, batch: int, pool: int, coupling: str, target: str
) -> tuple[float, float, float, float]:
    """Promised, live and peak MiB of one pool, and its set-up over a later batch."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    process = make_process(
        "kuramoto",
        shape=(1, size, size),
        steps=steps,
        coupling=coupling,
        target=target,
        pool_size=pool,
    )

    def images(count: int) -> torch.Tensor:
        return torch.rand(count, 1, size, size, generator=generator) * 2 - 1

    # Everything that torch allocates once, on a pool of one slice.
    small = make_process(
        "kuramoto",
        shape=(1, size, size),
        steps=2,
        coupling=coupling,
        target=target,
        pool_size=batch,
    )
    list(islice(small.training_batches(images, batch, generator), 4))
    before, resident = live_bytes(), peak_bytes()
    batches = process.training_batches(images, batch, generator)
    slices = -(-pool // batch)
    began = time.perf_counter()
    for _ in range(slices):
        next(batches)
    setup = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(slices):
        next(batches)
    later = time.perf_counter() - began
    live, peak = live_bytes() - before, peak_bytes() - resident
    del batches  # which had to live until here
    promised = BYTES[target] * slices * batch * size * size
    return promised / MIB, live / MIB, peak / MIB, setup / later


def live_bytes() -> int:
    """Bytes of all tensors' memory, each counted once."""
    gc.collect()
    storages = {
        each.untyped_storage().data_ptr(): each.untyped_storage().nbytes()
        for each in gc.get_objects()
        if type(each) is torch.Tensor
    }
    return sum(storages.values())


def peak_bytes() -> int:
    """The most memory this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
