"""Likelihoods of two phases that go together, against quadrature.

Their density is a Fourier series on the torus, and so is what each process makes of it: what a
perfect network would answer is known, and differentiable.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kod_bench.diffusion import KuramotoDiffusion, Predictor, TorusFlow, WrappedDiffusion
from kod_bench.diffusion.circle import von_mises_log_density, wrapped_normal_log_density
from kod_bench.diffusion.torus_likelihood import negative_log_likelihood

NODES = 32
WAVES = torch.fft.fftfreq(NODES, 1 / NODES).double()
GRID = torch.arange(NODES).double() * (2 * math.pi / NODES) - math.pi
CELL = (2 * math.pi / NODES) ** 2


def density() -> Tensor:
    """(NODES, NODES): a phase near 1, and another that follows it."""
    first, second = torch.meshgrid(GRID, GRID, indexing="ij")
    weight = log_weight(torch.stack([first, second], -1).view(-1, 2)).exp().view(NODES, NODES)
    return weight / (weight.sum() * CELL)


def log_weight(angles: Tensor) -> Tensor:
    """Of (N, 2) pairs of phases."""
    first, second = angles.unbind(1)
    return 1.5 * torch.cos(first - 1) + 2 * torch.cos(first - second)


def pairs(count: int) -> Tensor:
    """(count, 1, 1, 2) images of angles drawn from the density, by rejection."""
    rng = torch.Generator().manual_seed(1)
    kept = torch.empty(0, 2, dtype=torch.float64)
    while len(kept) < count:
        tried = 2 * torch.rand(8 * count, 2, generator=rng, dtype=torch.float64) - 1
        level = torch.rand(len(tried), generator=rng, dtype=torch.float64).log()
        chosen = level < log_weight(math.pi * tried) - 3.5
        kept = torch.cat([kept, tried[chosen]])
    return kept[:count].view(count, 1, 1, 2).float()


def exact_nats(images: Tensor) -> Tensor:
    """-log density per phase at images of angles; its normalisation by quadrature."""
    first, second = torch.meshgrid(GRID, GRID, indexing="ij")
    total = log_weight(torch.stack([first, second], -1).view(-1, 2)).exp().sum() * CELL
    return (total.log() - log_weight(math.pi * images.double().flatten(1))) / 2


def series(coefficients: Tensor, state: Tensor) -> Tensor:
    """(N,) values of sum c_mn e^{i (m a + n b)} at (N, 1, 1, 2) phases, on the nodes' origin."""
    angle = state.double().flatten(1) + math.pi
    first, second = (torch.exp(1j * WAVES * angle[:, k : k + 1]) for k in (0, 1))
    return ((first @ coefficients) * second).sum(1).real


def score(coefficients: Tensor, state: Tensor) -> Tensor:
    """Gradient of the log of a density, (N, 1, 1, 2)."""
    slopes = (1j * WAVES.unsqueeze(1) * coefficients, 1j * WAVES * coefficients)
    value = series(coefficients, state)
    return torch.stack([series(each, state) / value for each in slopes], 1).view(state.shape)


def wrapped_answers(process: WrappedDiffusion) -> Predictor:
    start = torch.fft.fft2(density()) / NODES**2

    def predict(state: Tensor, step: Tensor) -> Tensor:
        t = int(step[0])
        decay = torch.exp(-0.5 * process.sigma[t] ** 2 * WAVES.square())
        return (-process.scale[t] * score(decay.unsqueeze(1) * decay * start, state)).float()

    return predict


def flow_answers(process: TorusFlow) -> Predictor:
    """A start is spread evenly over +-s pi; its velocity there is y / s."""
    start = torch.fft.fft2(density()) / NODES**2
    waves = WAVES.clone()
    waves[0] = 1

    def predict(state: Tensor, step: Tensor) -> Tensor:
        s = int(step[0]) / process.steps
        turn = math.pi * s * waves
        spread = turn.sin() / turn
        carried = (
            -1j / (math.pi * s**2) * (turn.sin() / waves**2 - math.pi * s * turn.cos() / waves)
        )
        spread[0], carried[0] = 1, 0
        value = series(spread.unsqueeze(1) * spread * start, state)
        velocity = [
            series(carried.unsqueeze(1) * spread * start, state) / value,
            series(spread.unsqueeze(1) * carried * start, state) / value,
        ]
        return (math.sqrt(3) / math.pi * torch.stack(velocity, 1).view(state.shape)).float()

    return predict


def kuramoto_answers(process: KuramotoDiffusion) -> Predictor:
    """The law is pushed through every step's kernel on the nodes."""
    first, second = torch.meshgrid(GRID, GRID, indexing="ij")
    nodes = torch.stack([first, second], -1).view(-1, 1, 1, 2)
    law, laws = density().flatten(), []
    for t in range(1, process.steps + 1):
        mean = (nodes + process.drift(nodes, t)).view(-1, 2)
        std = torch.tensor(process.noise_std[t], dtype=torch.float64)
        kernel = [
            wrapped_normal_log_density(GRID.unsqueeze(1) - mean[:, k], std).exp() for k in (0, 1)
        ]
        law = torch.einsum("is,js,s->ij", *kernel, law * CELL).flatten()
        laws.append(torch.fft.fft2(law.view(NODES, NODES)) / NODES**2)

    def predict(state: Tensor, step: Tensor) -> Tensor:
        t = int(step[0])
        return (-process.scale[t] * score(laws[t - 1], state)).float()

    return predict


KURAMOTO: dict[str, Any] = {"ramp": "constant", "noise_range": (0.12, 0.12)}


def nats(kind: str, count: int, **options: int) -> Tensor:
    shape = (1, 1, 2)
    process: Any
    if kind == "wrapped":
        process = WrappedDiffusion(shape=shape, steps=60, reading="angle")
        answers = wrapped_answers(process)
    elif kind == "torus-flow":
        process = TorusFlow(shape=shape, steps=60, reading="angle")
        answers = flow_answers(process)
    else:
        process = KuramotoDiffusion(
            shape=shape, steps=60, reading="angle", coupling_ratio=0.4, **KURAMOTO
        )
        answers = kuramoto_answers(process)
    rng = torch.Generator().manual_seed(2)
    found = negative_log_likelihood(process, answers, pairs(count), rng, **options)
    assert found.nats.shape == (count,)
    assert found.nats.dtype == torch.float64
    assert found.mean == pytest.approx(found.nats.mean().item())
    assert found.standard_error == pytest.approx(found.nats.std().item() / count**0.5)
    return found.nats


# A chain of finite steps has not quite the law of its flow, nor quite ends in the prior.
@pytest.mark.parametrize(
    ("kind", "bound"), [("wrapped", 0.01), ("torus-flow", 0.01), ("kuramoto", 0.04)]
)
def test_it_is_that_of_quadrature_where_the_network_is_perfect(kind: str, bound: float) -> None:
    exact = exact_nats(pairs(300))
    assert exact.mean() < 1.5  # the uniform law has 1.84
    difference = nats(kind, 300, probes=2) - exact
    error = difference.std() / 300**0.5
    assert error < 0.02
    assert difference.mean().abs() < 3 * error + bound
    # Image by image, too, but for Hutchinson's noise.
    assert torch.corrcoef(torch.stack([difference + exact, exact]))[0, 1] > 0.9


def test_more_probes_tell_the_same_more_surely() -> None:
    exact = exact_nats(pairs(100))
    one, many = (nats("wrapped", 100, probes=k, jumps=30) - exact for k in (1, 8))
    assert many.std() < 0.6 * one.std()
    assert abs(many.mean()) < 0.03


def test_a_process_that_learnt_nothing_says_uniform() -> None:
    process = WrappedDiffusion(shape=(1, 4, 4), steps=10, reading="angle")
    found = negative_log_likelihood(
        process, lambda x, t: 0 * x, torch.zeros(3, 1, 4, 4), torch.Generator()
    )
    assert found.mean == pytest.approx(math.log(2 * math.pi))
    assert found.standard_error == 0


def test_the_von_mises_density_integrates_to_one() -> None:
    angle = torch.arange(4000).double() * (2 * math.pi / 4000) - math.pi
    for kappa in (0.0, 0.9, 40.0):
        total = von_mises_log_density(angle, kappa).exp().sum() * 2 * math.pi / 4000
        assert total.item() == pytest.approx(1, abs=1e-9)


def test_misfits_are_refused() -> None:
    process = WrappedDiffusion(shape=(1, 1, 2), steps=10, reading="angle")
    rng = torch.Generator()
    for options, message in (
        ({"probes": 0}, "probes must be at least 1"),
        ({"jumps": 11}, "jumps must be at most T = 10, got 11"),
        ({"jumps": 0}, "jumps must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            negative_log_likelihood(process, lambda x, t: x, pairs(2), rng, **options)
