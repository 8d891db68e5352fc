"""bf16 autocast against fp32, for every process: one step's gradients, a training, its samples."""

from itertools import islice

import pytest
import torch
from torch import Tensor, nn

from kod_bench.diffusion import DiffusionProcess, sample
from kod_bench.networks import NetworkRunner
from kod_bench.training.gradients import accumulate_gradients
from kod_bench.training.optimizer import make_optimizer
from tests.training.every_process import PROCESS_NAMES, fitted, generator, images, network_of

CPU = torch.device("cpu")
#: bf16 keeps 8 bits, 0.4 % a rounding, of which a network makes some dozens in a row.
OF_GRADIENTS = 0.02
OF_LOSSES = 0.02
#: Of a pixel in [-1, 1]. A prediction is asked for some times, each at a state a little off.
OF_SAMPLES = 0.02


def gradients(process: DiffusionProcess, network: nn.Module, *, bf16: bool) -> Tensor:
    network.zero_grad()
    predict = NetworkRunner(network, CPU, bf16=bf16, compiled=False)
    for batch in islice(process.training_batches(images(process), 16, generator()), 2):
        accumulate_gradients(predict, batch, 16)
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def train_a_little(process: DiffusionProcess, *, bf16: bool) -> tuple[nn.Module, Tensor]:
    """The network and its losses, the same batches in either precision."""
    network = network_of(process)
    predict = NetworkRunner(network, CPU, bf16=bf16, compiled=False)
    optimizer = make_optimizer(network, 2e-3, 0.01)
    losses = []
    for batch in islice(process.training_batches(images(process), 16, generator()), 12):
        optimizer.zero_grad(set_to_none=True)
        losses.append(accumulate_gradients(predict, batch, 16))
        optimizer.step()
    return network.eval(), torch.stack(losses)


def relative(one: Tensor, other: Tensor) -> float:
    """The difference of two tensors as wholes."""
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("name", PROCESS_NAMES)
def test_bf16_trains_and_draws_as_fp32_does_within_a_bound(name: str) -> None:
    process = fitted(name)
    network = network_of(process)
    rounded, exact = (gradients(process, network, bf16=bf16) for bf16 in (True, False))
    assert 1e-4 < relative(rounded, exact) < OF_GRADIENTS  # and it was not left out
    trained, losses = train_a_little(process, bf16=False)
    assert relative(train_a_little(process, bf16=True)[1], losses) < OF_LOSSES
    start = process.prior(8, generator())
    drawn = [
        sample(
            process,
            NetworkRunner(trained, CPU, bf16=bf16, compiled=False),
            8,
            generator(),
            sampler=process.samplers[-1],
            start=start,
        )
        for bf16 in (True, False)
    ]
    # Of most pixels: a phase at the cut of the circle may come out on either side of it.
    assert float((drawn[0] - drawn[1]).abs().quantile(0.9)) < OF_SAMPLES
