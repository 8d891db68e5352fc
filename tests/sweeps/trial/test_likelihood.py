"""The likelihood in a row: of which models, and of what."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kod_bench.diffusion import make_process
from kod_bench.networks import make_network
from kod_bench.sweeps.trial.likelihood import IMAGES, held_out_likelihood

CPU = torch.device("cpu")


class Silent(nn.Module):
    """Has learnt nothing; counts the images that it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.asked: set[int] = set()

    def forward(self, state: Tensor, step: Tensor) -> Tensor:
        self.asked.add(len(state))
        return self.weight * state.sin()


def subject(name: str, **parameters: Any) -> Any:
    """A trial's subject, as far as it is looked at, with angles held out."""
    angles = 2 * math.pi * torch.rand(40, 1, 8, 8, generator=torch.Generator()) - math.pi
    process = make_process(name, shape=(1, 8, 8), steps=6, **parameters)
    dataset = SimpleNamespace(test=angles)
    return SimpleNamespace(process=process, dataset=dataset, trial=SimpleNamespace(seed=3))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("ddpm", {}),
        ("ddpm", {"reading": "circle"}),
        ("heat", {}),
        ("kuramoto", {}),
        ("wrapped", {}),
        ("torus-flow", {}),
    ],
)
def test_pixels_and_intensities_have_none(name: str, parameters: dict[str, Any]) -> None:
    assert held_out_likelihood(subject(name, **parameters), Silent(), CPU) is None


def test_a_model_that_learnt_nothing_finds_all_angles_alike() -> None:
    network = Silent()
    for name in ("wrapped", "torus-flow"):
        found = held_out_likelihood(subject(name, reading="angle"), network, CPU)
        assert found is not None
        assert found.mean == pytest.approx(math.log(2 * math.pi))
    assert network.asked == {IMAGES}
    assert network.weight.grad is None


def test_a_network_answers_with_its_gradient_and_the_same_again() -> None:
    network = make_network(
        periodic=True, channels=1, image_size=8, steps=6, width=8, multipliers=(1, 2), blocks=1
    )
    with torch.no_grad():  # it starts with answers of zero
        for weights in network.parameters():
            weights.add_(0.05)
    of = subject("kuramoto", reading="angle", coupling="local", neighbourhood_radius=1)
    found, again = (held_out_likelihood(of, network, CPU) for _ in range(2))
    assert found is not None
    assert again is not None
    assert torch.equal(found.nats, again.nats)
    assert 0 < found.standard_error < 0.5
    assert torch.isfinite(found.nats).all()
