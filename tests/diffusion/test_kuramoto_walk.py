"""The walk of many chains and steps at once is the plain recursion, in few calls of operators."""

import math
from itertools import islice

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kod_bench.diffusion import KuramotoDiffusion
from kod_bench.diffusion.circle import wrap
from kod_bench.diffusion.path_weight import next_weight
from tests.diffusion.kuramoto_cases import generator, phases


def plain(process, chains, step, noise):
    """One step of one chain each, theta and H, from the formulas."""
    theta, weight = chains[:, 0], chains[:, 1]
    flow = process.flow(theta, step)
    std = process.noise_std.at(step, theta)
    gain = process._chain_target._gains[step - 1].view(-1, 1, 1, 1)
    after = next_weight(weight, noise, flow.pull_back(noise), gain, std)
    return torch.stack([wrap(theta + flow.drift() + std * noise), after], dim=1)


@pytest.mark.parametrize("target", ["path", "one-step"])
@pytest.mark.parametrize("coupling", ["global", "local", "none"])
def test_it_is_the_plain_recursion(coupling, target):
    process = KuramotoDiffusion(
        shape=(2, 4, 5),
        steps=30,
        coupling=coupling,
        reference_phase=0.4,
        neighbourhood_radius=1,
        target=target,
    )
    chains = process.start_chains(torch.zeros(6, 2, 4, 5, dtype=torch.float64))
    chains[:, 0] = phases(6, 2, 4, 5)
    before = chains.clone()
    step = torch.tensor([0, 3, 11, -2, -19, -25])
    chains[:, 1] = torch.where(step.view(-1, 1, 1, 1) > 0, 0.3, 0.0)
    kept, rng = chains.clone(), generator(5)
    walked = process._walk(chains, step, 19, generator(5))
    assert torch.equal(chains, kept)  # the arguments are left alone
    expected = chains.clone()
    # The noise of at most eight steps is drawn at once.
    drawn = torch.cat(
        [torch.randn(n, 6, 2, 4, 5, generator=rng, dtype=torch.float64) for n in (8, 8, 3)]
    )
    for k, noise in enumerate(drawn, 1):
        moves = step + k >= 1
        made = plain(process, expected[moves], (step + k)[moves], noise[moves])
        expected[moves] = made
    assert (wrap(walked[:, 0] - expected[:, 0])).abs().max() < 1e-12
    assert (walked[:, 1] - expected[:, 1]).abs().max() < 1e-9
    # The last two have not begun when the walk ends.
    assert torch.equal(walked[5], wrap(before[5]))


@pytest.mark.parametrize("target", ["path", "conditional"])
def test_many_steps_at_once_are_single_ones(target, monkeypatch):
    process = KuramotoDiffusion(shape=(1, 4, 4), steps=20, coupling="local", target=target)
    chains = process.start_chains(torch.rand(3, 1, 4, 4, generator=generator()) - 0.5)
    step = torch.tensor([1, 2, 5])
    noise = torch.randn(6, 3, 1, 4, 4, generator=generator(1))
    walked = process._walk(chains, step - 1, 6, generator(1))
    alone = chains
    for k in range(6):
        monkeypatch.setattr(torch, "randn", lambda *_, k=k, **__: noise[k : k + 1])
        alone = process.advance_chains(alone, step + k, generator())
    assert walked.shape == (3, 2 if target == "path" else 15, 1, 4, 4)
    assert (walked - alone).abs().max() < 2e-4


class Calls(TorchDispatchMode):
    """Counts the operators that are called."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.count += 1
        return function(*arguments, **(options or {}))


def calls_per_batch(process, batch_size):
    batches = process.training_batches(
        lambda number: torch.zeros(number, *process.shape), batch_size, generator()
    )
    turns = batches.slice_count
    list(islice(batches, turns))  # set up
    with Calls() as calls:
        list(islice(batches, 2 * turns))
    return calls.count / (2 * turns)


@pytest.mark.parametrize(
    ("coupling", "target", "steps", "most"),
    [
        ("local", "path", 100, 130),
        ("local", "path", 1000, 130),
        ("global", "path", 100, 130),
        ("none", "path", 100, 130),
        ("local", "one-step", 100, 130),
        ("global", "conditional", 100, 500),  # of 5,760: a phase's law is many operators
    ],
)
def test_a_batch_takes_few_calls(coupling, target, steps, most):
    process = KuramotoDiffusion(shape=(1, 2, 2), steps=steps, coupling=coupling, target=target)
    assert calls_per_batch(process, 32) <= most
    assert calls_per_batch(process, 128) <= most


def test_wide_steps_keep_the_estimate_exact():
    """Of one wide step on a flat image H is the score of the wrapped normal law."""
    process = KuramotoDiffusion(
        shape=(1, 1, 1), steps=1, coupling="none", reference_strength=0.0, noise_range=(2.0, 2.0)
    )
    chains = process.start_chains(torch.zeros(50, 1, 1, 1, dtype=torch.float64))
    walked = process._walk(chains, torch.zeros(50, dtype=torch.int64), 1, generator(2))
    theta, weight = walked[:, 0].flatten(), walked[:, 1].flatten()
    turns = 2 * math.pi * torch.arange(-9, 10, dtype=torch.float64)
    from_turns = theta.unsqueeze(1) + turns
    share = torch.softmax(-from_turns.square() / 4, dim=1)
    assert torch.allclose(weight, (share * from_turns).sum(1) / 2, atol=1e-9)
