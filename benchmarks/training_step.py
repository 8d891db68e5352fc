"""Cost of a training step: diffusion of phases over DDPM, same network, batch and images.

Prints ratios from one run, models taking turns so that a drifting machine slows all of them; on a
CPU of processor time, which other processes touch least. A round is a whole turn of the pool, where
chains of several batches walk together: single batches cost nothing or all of it. `--json FILE`
writes the same for programs:

    python benchmarks/training_step.py --size 32 --width 32 --batch 64 --steps 100 1000

With `--paths plain fast` every model is also trained on the fast path, which is bf16 autocast
(alone: `bf16`) and `torch.compile` (alone: `compiled`), and `over plain` is the ratio to the same
model's plain step. Compiling takes a minute per model on a CPU, before anything is timed; `--models
ddpm wrapped` measures these alone.

`outside` is the share of the step that is not the network's forward, backward and optimiser.
`naive` is the chain of the released code: a fresh image walked to its t for every sample, with all
the steps that takes (its mean over t, measured on one batch of t = T/2).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from kod_bench.diffusion import DiffusionProcess, make_process
from kod_bench.networks import NetworkRunner, make_network, place
from kod_bench.training.optimizer import make_optimizer

#: Batches in the pool of a Kuramoto process.
POOL = 8
#: The arguments of `NetworkRunner`.
PATHS = {
    "plain": {"bf16": False, "compiled": False},
    "bf16": {"bf16": True, "compiled": False},
    "compiled": {"bf16": False, "compiled": True},
    "fast": {"bf16": True, "compiled": True},
}


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chain-steps", type=int, help="of the Kuramoto processes")
    parser.add_argument(
        "--targets", nargs="+", choices=("path", "conditional"), default=["conditional", "path"]
    )
    parser.add_argument("--paths", nargs="+", choices=PATHS, default=["plain"])
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="measure only these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ratios there, too")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    threads = "" if device.type == "cuda" else f", {torch.get_num_threads()} threads"
    print(f"{device}{threads}, {options.size} px, width {options.width}, batch {options.batch}")
    print(
        f"{'T':>5} {'model':<24} {'path':<9} {'ms':>8} {'over ddpm':>10} {'over plain':>10} "
        f"{'outside':>8}"
    )
    found = []
    for steps in options.steps:
        rows = measure(steps, options, device)
        for (name, path), (total, outside) in rows.items():
            ratios = [
                f"{total / rows[base][0]:10.3f}" if base in rows else f"{'':>10}"
                for base in (("ddpm", path), (name, "plain"))
            ]
            print(
                f"{steps:>5} {name:<24} {path:<9} {total * 1e3:8.1f} {' '.join(ratios)} "
                f"{outside:8.1%}"
            )
            base = rows.get(("ddpm", path))
            found.append(
                {
                    "steps": steps,
                    "model": name,
                    "path": path,
                    "milliseconds": total * 1e3,
                    "over_ddpm": None if base is None else total / base[0],
                    "outside": outside,
                }
            )
    if options.json is not None:
        options.json.write_text(json.dumps({"torch": torch.__version__, "rows": found}, indent=1))


def measure(
    steps: int, options: argparse.Namespace, device: torch.device
) -> dict[tuple[str, str], tuple[float, float]]:
    """Median seconds of a step, and the share spent outside the network, per model and path."""
    batch = options.batch
    shape = (1, options.size, options.size)
    processes = {
        name: make_process(name, shape=shape, steps=steps)
        for name in ("ddpm", "wrapped", "torus-flow")
    }
    processes |= {
        f"kuramoto {coupling}, {target}": make_process(
            "kuramoto",
            shape=shape,
            steps=steps,
            coupling=coupling,
            target=target,
            pool_size=POOL * batch,
            chain_steps=options.chain_steps,
        )
        for coupling in ("global", "local")
        for target in options.targets
    }
    sizes = {"width": options.width, "multipliers": (1, 2, 2), "blocks": 1}
    if options.models is not None:
        for name in options.models:
            if name not in processes:
                raise SystemExit(f"--models {name!r}: choose from {', '.join(processes)}")
        processes = {name: processes[name] for name in options.models}
    turns = {
        (name, path): Turn(process, sizes, batch, device, path)
        for path in options.paths
        for name, process in processes.items()
    }
    times: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in turns}
    # The first round warms the pool up, and compiles.
    for index in range(options.rounds + 1):
        taken: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in turns}
        for _ in range(POOL):
            for key, turn in turns.items():
                taken[key].append(turn())
        for key, pairs in taken.items() if index else ():
            total, outside = (sum(each) / POOL for each in zip(*pairs, strict=True))
            times[key].append((total, outside))
    result = {}
    for key, pairs in times.items():
        total = statistics.median(t for t, _ in pairs)
        result[key] = total, statistics.median(o / t for t, o in pairs)
    local = "kuramoto local, path"
    if local in processes:
        chain = naive_chain(processes[local], batch, steps, device)
        for path in options.paths:
            total, share = result[local, path]
            inside = total * (1 - share)
            result["kuramoto local, naive", path] = inside + chain, chain / (inside + chain)
    return result


class Turn:
    """One training step of one model, timed.

    Args:
        process: where batches come from.
        sizes: of the network; see `make_network`.
        batch: samples.
        device: where.
        path: one of `PATHS`.
    """

    def __init__(
        self,
        process: DiffusionProcess,
        sizes: Mapping[str, Any],
        batch: int,
        device: torch.device,
        path: str,
    ) -> None:
        generator = torch.Generator(device).manual_seed(0)
        channels, size, _ = process.shape
        pixels = torch.randint(
            0, 256, (512, *process.shape), generator=generator, device=device, dtype=torch.uint8
        )

        def images(count: int) -> torch.Tensor:
            chosen = torch.randint(len(pixels), (count,), generator=generator, device=device)
            return pixels[chosen].float() / 127.5 - 1

        self.clock = clock(device)
        self.wait: Callable[[], None] = (
            torch.cuda.synchronize if device.type == "cuda" else lambda: None
        )
        self.batches = process.training_batches(images, batch, generator)
        network = make_network(
            periodic=process.periodic,
            channels=channels,
            image_size=size,
            steps=process.steps,
            grid=process.grid,
            **sizes,
        )
        self.network = NetworkRunner(place(network, device), device, **PATHS[path])
        self.optimizer = make_optimizer(network, 1e-4, 0.01)

    def __call__(self) -> tuple[float, float]:
        """Seconds of the whole step, and of making its batch."""
        self.wait()
        began = self.clock()
        batch = next(self.batches)
        self.wait()
        made = self.clock()
        prediction = self.network(batch.state, batch.step)
        loss = (batch.weight * (prediction - batch.target).square()).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.wait()
        ended = self.clock()
        return ended - began, made - began


def naive_chain(process: DiffusionProcess, batch: int, steps: int, device: torch.device) -> float:
    """Seconds to walk a batch of fresh images to the mean t."""
    generator = torch.Generator(device).manual_seed(0)
    state = process.encode(torch.zeros(batch, *process.shape, device=device))
    now = clock(device)
    began = now()
    for step in range(1, steps // 2 + 1):
        state = process.forward_step(state, step, generator)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return now() - began


def clock(device: torch.device) -> Callable[[], float]:
    """Processor time on a CPU, the wall's elsewhere."""
    return time.process_time if device.type == "cpu" else time.perf_counter


if __name__ == "__main__":
    main()
