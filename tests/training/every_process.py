"""Every process, small and fitted, with a small network: what tests of training share."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kod_bench.diffusion import PROCESSES, DiffusionProcess
from kod_bench.networks import make_network, place

PROCESS_NAMES = tuple(PROCESSES)
STEPS = 6
_SMALL: dict[str, dict[str, Any]] = {"kuramoto": {"calibration_chains": 8, "pool_size": 16}}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shape_of(name: str) -> tuple[int, int, int]:
    """Three channels: in one alone, all layouts of memory are the same."""
    return (3, 8, 16) if name == "sphere" else (3, 8, 8)


def images(process: DiffusionProcess) -> Callable[[int], Tensor]:
    """Smooth columns with noise."""
    rng = generator(1)
    wave = torch.linspace(0, 6, process.shape[2]).sin()

    def draw(count: int) -> Tensor:
        noise = torch.rand(count, *process.shape, generator=rng)
        return (0.7 * wave + 0.6 * noise - 0.3).clamp(-1, 1)

    return draw


@functools.cache
def fitted(name: str) -> DiffusionProcess:
    """Not to be changed."""
    process = PROCESSES[name](shape=shape_of(name), steps=STEPS, **_SMALL.get(name, {}))
    process.fit(images(process), generator())
    return process


def network_of(process: DiffusionProcess, width: int = 4, **sizes: Any) -> nn.Module:
    """A network that says something from the start."""
    torch.manual_seed(0)
    network = make_network(
        periodic=process.periodic,
        channels=process.state_shape[0],
        image_size=process.shape[1],
        steps=process.steps,
        grid=process.grid,
        width=width,
        **({"multipliers": (1,), "blocks": 1} | sizes),
    )
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return place(network, torch.device("cpu"))
