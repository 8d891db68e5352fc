"""Flow matching on the torus: its paths, against those of another library, and its ends."""

import math
from itertools import pairwise

import pytest
import torch

from kod_bench.diffusion import TorusFlow
from kod_bench.diffusion.circle import wrap
from kod_bench.diffusion.torus_flow import geodesic_velocity

STEPS = 20


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gap(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest distance on the circle."""
    return float(wrap(one - other).abs().max())


def test_paths_are_those_of_another_library() -> None:
    pytest.importorskip("flow_matching")
    from flow_matching.path import GeodesicProbPath
    from flow_matching.path.scheduler import CondOTScheduler
    from flow_matching.utils.manifolds import FlatTorus

    torus = GeodesicProbPath(CondOTScheduler(), FlatTorus())
    process = TorusFlow(shape=(1, 4, 4), steps=STEPS, reading="angle")
    start = torch.linspace(-1, 0.99, 16 * 64).view(64, 1, 4, 4)
    batch = next(process.training_batches(lambda count: start[:count], 64, generator()))
    velocity = batch.target * (math.pi / math.sqrt(3))
    begin = process.encode(start)
    # Theirs goes from the prior, at 0, to the data; in radians of [0, 2 pi], 2 pi included.
    theirs = torus.sample(
        x_0=wrap(begin + velocity).flatten(1).double(),
        x_1=begin.flatten(1).double(),
        t=1 - batch.step.double() / STEPS,
    )
    assert gap(theirs.x_t.view(start.shape), batch.state.double()) < 2e-6
    # At exactly opposite points both ways are shortest; no draw is.
    assert (theirs.dx_t.view(start.shape) + velocity).abs().max() < 2e-6


def test_a_geodesic_is_the_shortest_way_and_arrives() -> None:
    start, end = (wrap(7 * torch.randn(500, generator=generator(k)).double()) for k in (1, 2))
    velocity = geodesic_velocity(start, end)
    assert gap(start + velocity, end) < 1e-12
    assert velocity.abs().max() <= math.pi
    around = torch.stack([velocity + 2 * math.pi, velocity - 2 * math.pi])
    assert (velocity.abs() <= around.abs() + 1e-12).all()


def test_it_is_uniform_at_t_and_forward_steps_end_there() -> None:
    process = TorusFlow(shape=(1, 8, 8), steps=STEPS)
    images = torch.full((200, 1, 8, 8), 0.4)
    batch = next(process.training_batches(lambda count: images[:count], 200, generator()))
    spread = [
        float(wrap(batch.state - process.encode(images))[batch.step == t].abs().max())
        for t in (1, STEPS)
    ]
    assert spread[0] <= math.pi / STEPS + 1e-6
    assert spread[1] > 3
    state = process.encode(images)
    for t in range(1, STEPS + 1):
        state = process.forward_step(state, t, generator(t))
    for n in (1, 2, 3):
        assert abs(float(torch.cos(n * (state - 1)).mean())) < 4 / math.sqrt(2 * state.numel())


def test_a_constant_velocity_is_followed_exactly() -> None:
    """A point of data: the flow leads straight to it, by one step or many."""
    process = TorusFlow(shape=(1, 2, 2), steps=STEPS, reading="angle")
    point = torch.tensor([2.9, -3.0, 0.1, 1.5]).view(1, 1, 2, 2)
    state = process.prior(3, generator())
    unit = math.sqrt(3) / math.pi
    for way in ((STEPS, 0), (STEPS, 13, 4, 0)):
        here = state
        for t, to in pairwise(way):
            velocity = wrap(here - point) * STEPS / t
            here = process.reverse_step(here, t, to, unit * velocity, generator())
        assert gap(here, point) < 1e-5
