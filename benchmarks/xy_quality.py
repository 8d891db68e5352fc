"""What decides how many vortices a model makes of the XY model: levels' weights, prior, sampler.

Fields below the Kosterlitz-Thouless transition hold few vortices, and models make several times as
many. Trains small models on a heat bath of its own, draws from them in several ways, and prints a
line for each: errors of the energy per site, vortices per plaquette, and the rms error of the
two-point correlation over distances, beside the same of fresh fields (the floor):

    python benchmarks/xy_quality.py --size 32 --iterations 500 --seeds 0 1 2

`--only wrapped` runs the models whose name begins so.
"""

import argparse
import math
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kod_bench.diffusion import DiffusionProcess, make_process, sample
from kod_bench.diffusion.circle import wrap
from kod_bench.networks import make_network, place

LOCAL = {
    "coupling": "local",
    "neighbourhood_radius": 1,
    "coupling_ratio": 0.9,
    "reference_ratio": 0.0,
    "pool_size": 256,
}


@dataclass(frozen=True)
class Model:
    """What is trained, and from where and how it is sampled."""

    process: str
    parameters: dict[str, Any] = field(default_factory=dict)
    priors: tuple[str, ...] = ("uniform",)
    samplers: tuple[str, ...] = ("ancestral", "heun")


MODELS = {
    "wrapped, noise": Model("wrapped", {"level_weight": "noise"}),
    "wrapped, unit": Model("wrapped", {"level_weight": "unit"}),
    "wrapped, likelihood": Model("wrapped", {"level_weight": "likelihood"}),
    "wrapped, rho 3": Model("wrapped", {"rho": 3.0}),
    "torus-flow": Model("torus-flow", samplers=("euler", "heun")),
    "kuramoto alone": Model(
        "kuramoto",
        {"coupling": "none", "reference_ratio": 0.0, "pool_size": 256},
        ("matched",),
    ),
    "kuramoto local": Model("kuramoto", LOCAL, ("matched", "correlated")),
    "kuramoto local, likelihood": Model(
        "kuramoto", {**LOCAL, "loss_weight": "likelihood"}, ("correlated",)
    ),
}


def heat_bath(count: int, size: int, temperature: float, sweeps: int, seed: int) -> torch.Tensor:
    """Fields of the 2-D XY model on a torus, (count, 1, size, size) radians, each its own chain.

    A phase given its four neighbours is von Mises around the direction of h, the sum of their
    e^{i theta}, with concentration |h| / temperature; every other phase at a time.
    """
    rng = np.random.default_rng(seed)
    theta = np.zeros((count, size, size))
    rows, columns = np.indices((size, size))
    for sweep in range(2 * sweeps):
        chosen = (rows + columns) % 2 == sweep % 2
        around = _neighbours(np.exp(1j * theta))[:, chosen]
        drawn = rng.vonmises(np.angle(around), np.abs(around) / temperature)
        theta[:, chosen] = drawn
    turned = theta + rng.uniform(-math.pi, math.pi, (count, 1, 1))
    return wrap(torch.from_numpy(turned)).float().unsqueeze(1)


def _neighbours(field: NDArray[Any]) -> NDArray[Any]:
    total: NDArray[Any] = sum(np.roll(field, k, axis) for k in (1, -1) for axis in (1, 2))
    return total


@dataclass(frozen=True)
class Physics:
    """Of fields of angles."""

    energy: float
    vortices: float
    correlation: torch.Tensor

    @classmethod
    def of(cls, theta: torch.Tensor) -> "Physics":
        """(N, 1, H, W) radians."""
        theta = theta.double()
        right, down = (wrap(theta.roll(-1, axis) - theta) for axis in (3, 2))
        turns = right + down.roll(-1, 3) - right.roll(-1, 2) - down
        waves = torch.fft.fft2(torch.polar(torch.ones_like(theta), theta)).abs().square()
        correlation = torch.fft.ifft2(waves).real.mean((0, 1)) / theta[0].numel()
        along = (correlation[0] + correlation[:, 0]) / 2
        return cls(
            energy=-float(right.cos().mean() + down.cos().mean()),
            vortices=float((turns.abs() > math.pi).double().mean()),
            correlation=along[: theta.shape[-1] // 2 + 1],
        )


def trained(process: DiffusionProcess, data: torch.Tensor, seed: int, iterations: int) -> Any:
    """The mean of a network's weights on the way, as a trial has it."""
    generator = torch.Generator().manual_seed(seed)

    def images(count: int) -> torch.Tensor:
        return data[torch.randint(len(data), (count,), generator=generator)] / math.pi

    process.fit(images, generator)
    torch.manual_seed(seed)
    network = make_network(
        periodic=process.periodic,
        channels=process.state_shape[0],
        image_size=data.shape[-1],
        steps=process.steps,
        width=16,
        multipliers=(1, 2, 2),
        blocks=1,
    )
    place(network, torch.device("cpu"))
    mean = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for batch in islice(process.training_batches(images, 32, generator), iterations):
        loss = (batch.weight * (network(batch.state, batch.step) - batch.target).square()).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        mean.update_parameters(network)
    return mean.module


def main() -> None:
    """Train, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--fields", type=int, default=1500)
    parser.add_argument("--sweeps", type=int, default=400)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--evaluations", type=int, nargs="+", default=[100, 25])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    size, count = options.size, options.fields
    fields = heat_bath(count + 2 * options.samples, size, options.temperature, options.sweeps, 0)
    data, fresh, known = fields.split([count, options.samples, options.samples])
    truth = Physics.of(torch.cat([data, known]))
    print(f"{size} px, T {options.temperature}: energy {truth.energy:.3f}, ", end="")
    print(f"vortices {truth.vortices:.4f}, {options.iterations} iterations")
    print(f"{'model':<28} {'seed':>4} {'prior':<11} {'sampler':<17} ", end="")
    print(f"{'asked':>5} {'E':>7} {'vortex':>7} {'corr':>6}")

    def show(name: str, seed: int, way: tuple[str, str, int], theta: torch.Tensor) -> None:
        found = Physics.of(theta)
        wrong = (found.correlation - truth.correlation)[1:].square().mean().sqrt()
        print(f"{name:<28} {seed:>4} {way[0]:<11} {way[1]:<17} {way[2]:>5} ", end="")
        print(f"{found.energy - truth.energy:+7.3f} {found.vortices:7.4f} {wrong:6.3f}", flush=True)

    show("fresh fields", 0, ("", "", 0), fresh)
    for name, model in MODELS.items():
        if not name.startswith(options.only):
            continue
        for seed in options.seeds:
            process = make_process(
                model.process, shape=(1, size, size), steps=100, reading="angle", **model.parameters
            )
            began = time.monotonic()
            network = trained(process, data, seed, options.iterations)
            print(f"# {name}, seed {seed}: {time.monotonic() - began:.0f} s")
            for prior in model.priors:
                for sampler in model.samplers:
                    for asked in options.evaluations:
                        generator = torch.Generator().manual_seed(seed)
                        start = process.prior(options.samples, generator, prior)
                        drawn = sample(
                            process,
                            network,
                            options.samples,
                            generator,
                            start=start,
                            sampler=sampler,
                            evaluations=asked,
                        )
                        show(name, seed, (prior, sampler, asked), math.pi * drawn)


if __name__ == "__main__":
    main()
