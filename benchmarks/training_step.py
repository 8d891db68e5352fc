"""Cost of a training step: Kuramoto diffusion over DDPM, same network, batch and images.

Prints ratios from one run, models taking turns so that a drifting machine slows all of them:

    python benchmarks/training_step.py --size 32 --width 32 --batch 64 --steps 100 1000

`outside` is the share of the step that is not the network's forward, backward and optimiser.
`naive` is the chain of the released code: a fresh image walked to its t for every sample, with all
the steps that takes (its mean over t, measured on one batch of t = T/2).
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from kod_bench.diffusion import DiffusionProcess, make_process
from kod_bench.networks import make_network


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    print(f"{device}, {options.size} px, width {options.width}, batch {options.batch}")
    print(f"{'T':>5} {'model':<24} {'ms':>8} {'over ddpm':>10} {'outside':>8}")
    for steps in options.steps:
        rows = measure(steps, options.size, options.width, options.batch, options.rounds, device)
        base = rows["ddpm"][0]
        for name, (total, outside) in rows.items():
            print(f"{steps:>5} {name:<24} {total * 1e3:8.1f} {total / base:10.3f} {outside:8.1%}")


def measure(
    steps: int, size: int, width: int, batch: int, rounds: int, device: torch.device
) -> dict[str, tuple[float, float]]:
    """Median seconds of a step, and the share spent outside the network, per model."""
    shape = (1, size, size)
    processes = {
        "ddpm": make_process("ddpm", shape=shape, steps=steps),
        "kuramoto global, path": make_process(
            "kuramoto", shape=shape, steps=steps, coupling="global", pool_size=4 * batch
        ),
        "kuramoto local, path": make_process(
            "kuramoto", shape=shape, steps=steps, coupling="local", pool_size=4 * batch
        ),
    }
    turns = {name: Turn(process, width, batch, device) for name, process in processes.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    for index in range(rounds + 4):  # the first four visits warm the pool's slices up
        for name, turn in turns.items():
            measured = turn()
            if index >= 4:
                times[name].append(measured)
    result = {}
    for name, pairs in times.items():
        total = statistics.median(t for t, _ in pairs)
        result[name] = total, statistics.median(o / t for t, o in pairs)
    kuramoto = processes["kuramoto local, path"]
    chain = naive_chain(kuramoto, batch, steps, device)
    total, share = result["kuramoto local, path"]
    inside = total * (1 - share)
    result["kuramoto local, naive"] = inside + chain, chain / (inside + chain)
    return result


class Turn:
    """One training step of one model, timed."""

    def __init__(
        self, process: DiffusionProcess, width: int, batch: int, device: torch.device
    ) -> None:
        generator = torch.Generator(device).manual_seed(0)
        channels, size, _ = process.shape
        pixels = torch.randint(
            0, 256, (512, *process.shape), generator=generator, device=device, dtype=torch.uint8
        )

        def images(count: int) -> torch.Tensor:
            chosen = torch.randint(len(pixels), (count,), generator=generator, device=device)
            return pixels[chosen].float() / 127.5 - 1

        self.wait: Callable[[], None] = (
            torch.cuda.synchronize if device.type == "cuda" else lambda: None
        )
        self.batches = process.training_batches(images, batch, generator)
        self.network = make_network(
            periodic=process.periodic,
            channels=channels,
            image_size=size,
            steps=process.steps,
            width=width,
            multipliers=(1, 2, 2),
            blocks=1,
        ).to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)
        self.bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()

    def __call__(self) -> tuple[float, float]:
        """Seconds of the whole step, and of making its batch."""
        self.wait()
        began = time.perf_counter()
        batch = next(self.batches)
        self.wait()
        made = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16, enabled=self.bf16):
            prediction = self.network(batch.state, batch.step)
        loss = (batch.weight * (prediction.float() - batch.target).square()).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.wait()
        ended = time.perf_counter()
        return ended - began, made - began


def naive_chain(process: DiffusionProcess, batch: int, steps: int, device: torch.device) -> float:
    """Seconds to walk a batch of fresh images to the mean t."""
    generator = torch.Generator(device).manual_seed(0)
    state = process.encode(torch.zeros(batch, *process.shape, device=device))
    began = time.perf_counter()
    for step in range(1, steps // 2 + 1):
        state = process.forward_step(state, step, generator)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
