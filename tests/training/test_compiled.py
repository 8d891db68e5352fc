"""One compilation serves a whole run: no graph breaks, and nothing is compiled again on the way.

What is compiled is the network, as `NetworkRunner` does it; traced here as torch.compile does, and
run without generating code. The rest of a step draws from a torch.Generator, which torch.compile
(2.15) does not trace.
"""

import functools
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from kod_bench.diffusion import PROCESSES, DiffusionProcess, sample
from kod_bench.networks import ARCHITECTURES, VARIANTS, NetworkRunner, make_network, place
from kod_bench.training.gradients import accumulate_gradients
from tests.training.every_process import PROCESS_NAMES, fitted, generator, images, network_of

CPU = torch.device("cpu")


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> CompileCounter:
    """Counts what torch.compile is handed, and refuses to break a graph."""
    counter = CompileCounter()
    traced = functools.partial(torch.compile, backend=counter, fullgraph=True)
    monkeypatch.setattr(torch, "compile", traced)
    return counter


def train_a_little(process: DiffusionProcess, runner: NetworkRunner) -> None:
    """Whole batches, then one in parts of which the last is smaller."""
    batches = process.training_batches(images(process), 4, generator())
    for batch in islice(batches, 3):
        accumulate_gradients(runner, batch, 4)
    accumulate_gradients(runner, next(batches), 3)


def draw_in_every_way(process: DiffusionProcess, runner: NetworkRunner) -> None:
    """All samplers and priors, with and without jumps, the last batch smaller."""
    for sampler in process.samplers:
        for count, evaluations in ((4, process.steps), (3, 3)):
            for prior in process.priors:
                start = process.prior(count, generator(), prior)
                sample(
                    process,
                    runner,
                    count,
                    generator(),
                    sampler=sampler,
                    evaluations=evaluations,
                    start=start,
                )


@pytest.mark.parametrize("name", PROCESS_NAMES)
def test_a_training_and_a_sampling_compile_once_each(name: str, counter: CompileCounter) -> None:
    process = fitted(name)
    network = network_of(process)
    training = NetworkRunner(network, CPU, bf16=True, compiled=True)
    training.warm_up(4, process.state_shape)
    assert counter.frame_count == 1
    train_a_little(process, training)
    # A graph that breaks would have ended the compiled path.
    assert (training.precision, counter.frame_count) == ("bf16-compiled", 1)
    sampling = NetworkRunner(network.eval(), CPU, bf16=True, compiled=True)
    draw_in_every_way(process, sampling)
    assert (sampling.precision, counter.frame_count) == ("bf16-compiled", 2)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_network_is_one_graph(
    architecture: str, variant: str, counter: CompileCounter
) -> None:
    process = PROCESSES["kuramoto"](shape=(1, 16, 16), steps=6, pool_size=8)
    network = make_network(
        periodic=True,
        channels=1,
        image_size=16,
        steps=6,
        architecture=architecture,
        variant=variant,
        **({"attention": (8,), "dropout": 0.1, "width": 8} if architecture == "unet" else {}),
    )
    runner = NetworkRunner(place(network, CPU), CPU, bf16=True, compiled=True)
    train_a_little(process, runner)
    assert (runner.precision, counter.frame_count) == ("bf16-compiled", 1)


class Breaks(nn.Module):
    """Goes by what a number is: the graph would break there."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, state: Tensor, step: Tensor) -> Tensor:
        out: Tensor = self.layer(state)
        return out if step[0] > 2 else -out


class Anew(Breaks):
    """Behaves by what is no tensor and changes with every call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, state: Tensor, step: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.layer(state) * (2.0 if self.calls % 2 else 3.0)
        return out


@pytest.mark.parametrize("planted", [Breaks, Anew])
def test_a_planted_mistake_is_found(planted: Any, counter: CompileCounter) -> None:
    process = fitted("ddpm")
    runner = NetworkRunner(planted(), CPU, bf16=True, compiled=True)
    train_a_little(process, runner)
    assert (runner.precision, counter.frame_count) != ("bf16-compiled", 1)
