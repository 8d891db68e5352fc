"""Heun's method on phases is of second order, Euler's of first: errors against exact flows.

Data are a wrapped normal law about a point; so are noisy phases, or nearly so, and symmetric about
it. No phase crosses that point, so that the flow keeps the probability between it and a phase: from
where a phase is now follows where it came from.
"""

import math
from itertools import pairwise

import pytest
import torch

from kod_bench.diffusion import KuramotoDiffusion, TorusFlow, WrappedDiffusion
from kod_bench.diffusion.circle import wrap

CENTRE, STD = 2.8, 0.5  # across the cut
STEPS = 129
N = torch.arange(1, 80, dtype=torch.float64).view(-1, 1, 1, 1, 1)


class NoisyPhases:
    """Laws of theta_0 plus normal noise, and their scores."""

    def __init__(self, process, levels):
        self.process, self.levels = process, levels

    def spectrum(self, step):
        """E e^{in(theta - centre)}, of n = 1, 2, ..."""
        return torch.exp(-0.5 * N.square() * (STD**2 + self.levels[step] ** 2))

    def predict(self, away, step):
        law = 1 + 2 * (self.spectrum(step) * (N * away).cos()).sum(0)
        slope = -2 * (N * self.spectrum(step) * (N * away).sin()).sum(0)
        return -self.process.scale[step] * slope / law


def kuramoto():
    process = KuramotoDiffusion(
        shape=(1, 1, 40),
        steps=STEPS,
        coupling="none",
        reference_strength=0.0,
        reading="angle",
        target="one-step",  # whose unit is not sigma_t, so that it matters which step it is of
    )
    variances = process.noise_std.values.square().cumsum(0)
    return NoisyPhases(process, [0.0, *variances.sqrt().tolist()])


def wrapped():
    process = WrappedDiffusion(shape=(1, 1, 40), steps=STEPS, reading="angle")
    return NoisyPhases(process, [0.0, *process.sigma.values.tolist()])


class Geodesics:
    """theta_0 plus s times a uniform phase; the velocity is that of the conserved probability."""

    def __init__(self):
        self.process = TorusFlow(shape=(1, 1, 40), steps=STEPS, reading="angle")

    def spectrum(self, step):
        return torch.exp(-0.5 * (N * STD).square()) * torch.sinc(N * step / STEPS)

    def predict(self, away, step):
        s, data = step / STEPS, torch.exp(-0.5 * (N * STD).square())
        law = 1 + 2 * (self.spectrum(step) * (N * away).cos()).sum(0)
        growth = (torch.cos(math.pi * N * s) - torch.sinc(N * s)) / s
        flux = -2 * (data * growth * (N * away).sin() / N).sum(0)
        return flux / law * (math.sqrt(3) / math.pi)


def probability(spectrum, away):
    """Between the centre and a phase."""
    return (away / 2 + (spectrum * (N * away).sin() / N).sum(0)) / math.pi


def origin(law, away):
    """Where phases at T are at the step 1, by bisection."""
    kept = probability(law.spectrum(STEPS), away)
    low, high = torch.full_like(away, -math.pi), torch.full_like(away, math.pi)
    for _ in range(60):
        middle = (low + high) / 2
        below = probability(law.spectrum(1), middle) < kept
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low


def error(law, jumps, corrected):
    euler = "euler" if "euler" in law.process.samplers else "probability-flow"
    sampler = "heun" if corrected else euler
    away = torch.linspace(-2.9, 2.9, 40, dtype=torch.float64).view(1, 1, 1, 40)
    state = wrap(CENTRE + away)
    for t, to in pairwise(range(STEPS, 0, -(STEPS - 1) // jumps)):
        here = law.predict(wrap(state - CENTRE), t)
        reached = law.process.reverse_step(state, t, to, here, torch.Generator(), sampler)
        if corrected:
            there = law.predict(wrap(reached - CENTRE), to)
            reached = law.process.correct_step(state, t, to, here, reached, there, sampler)
        state = reached
    assert to == 1
    return float(wrap(state - CENTRE - origin(law, away)).square().mean().sqrt())


@pytest.mark.parametrize(("corrected", "order"), [(False, 1), (True, 2)])
@pytest.mark.parametrize("make", [kuramoto, wrapped, Geodesics])
def test_halved_steps_divide_the_error_by_two_to_the_order(make, corrected, order):
    law = make()
    errors = [error(law, jumps, corrected) for jumps in (16, 32, 64)]
    for before, after in pairwise(errors):
        assert math.log2(before / after) == pytest.approx(order, abs=0.15)
