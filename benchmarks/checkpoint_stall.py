"""How long a checkpoint stops the training, and how large it is: with the pool, and without.

    python benchmarks/checkpoint_stall.py --size 96 --steps 1000

`before` is a checkpoint of network, average and optimiser alone, written while the training waits:
that of versions without exact resumption. `now` holds the pool of chains, too: the training waits
for a copy of what changes in place, and `beside` is the time that a thread then takes to write it.
Medians; the two take turns, so that a drifting machine slows both. Ends with status 1 if the ratio
of stalls is above `MOST`.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from kod_bench.diffusion import make_process
from kod_bench.diffusion.chain_pool import ChainPool
from kod_bench.networks import make_network, place
from kod_bench.training import CheckpointStore
from kod_bench.training.saving import CheckpointWriter
from kod_bench.training.streams import Position, Streams, gather_states

MOST = 1.2
POOL = 1024  # the default of Kuramoto diffusion's pool_size


def trained(width: int, size: int, device: torch.device) -> dict[str, Any]:
    """The state of a network after one step, its average and its optimiser."""
    network = place(
        make_network(periodic=True, channels=1, image_size=size, steps=1000, width=width), device
    )
    average = AveragedModel(network)
    optimizer = torch.optim.AdamW(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return {
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--target", choices=("path", "conditional"), default="conditional")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="on the disk to be measured; default: a temporary one")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    shape = (1, options.size, options.size)
    process = make_process(
        "kuramoto", shape=shape, steps=options.steps, target=options.target, pool_size=POOL
    )
    images = torch.randint(0, 256, (256, *shape), dtype=torch.uint8)
    streams = Streams(process, images, options.batch, (), Position(0, 0, 0), device)
    # A full pool, without walking T / 2 steps with each of its chains.
    next(pool := streams.batches)
    assert isinstance(pool, ChainPool)
    (first,) = pool.slices
    whole, rest = divmod(POOL, len(first.chains))
    pool.slices = [
        replace(
            first,
            chains=first.chains[:size].clone(),
            steps=first.steps[:size].clone(),
            known=first.known[:size],
        )
        for size in [len(first.chains)] * whole + [rest] * (rest > 0)
    ]
    plain = trained(options.width, options.size, device)
    stalls: dict[str, list[float]] = {"before": [], "now": [], "beside": []}
    sizes = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        before, now = (CheckpointStore(Path(folder, name)) for name in ("before", "now"))
        for number in range(1, options.rounds + 1):
            began = time.monotonic()
            sizes["before"] = before.save(number, plain).stat().st_size
            stalls["before"].append(time.monotonic() - began)
            with CheckpointWriter(now) as writer:
                began = time.monotonic()
                writer.save(number, plain, {"streams": gather_states(streams)})
                stalls["now"].append(time.monotonic() - began)
                writer.wait()
                stalls["beside"].append(time.monotonic() - began - stalls["now"][-1])
        sizes["now"] = next(Path(folder, "now").glob("*.pt")).stat().st_size
    medians = {name: statistics.median(found) for name, found in stalls.items()}
    share = 1 - sizes["before"] / sizes["now"]
    ratio = medians["now"] / medians["before"]
    print(
        f"{device}, {options.size} px, T = {options.steps}, width {options.width}, "
        f"{options.target}: before {sizes['before'] / 1e6:.0f} MB, {medians['before']:.2f} s; now "
        f"{sizes['now'] / 1e6:.0f} MB ({share:.0%} streams and pool), {medians['now']:.2f} s and "
        f"{medians['beside']:.2f} s beside; stall {ratio:.2f} of before"
    )
    sys.exit(ratio > MOST)


if __name__ == "__main__":
    main()
