"""Networks on the sphere: what lies across a pole, and turning the sphere turns the answer."""

import math

import pytest
import torch

from kod_bench.diffusion import SphereDiffusion
from kod_bench.diffusion.spherical_harmonics import real_harmonics, sphere_grid
from kod_bench.networks import GridNetwork, make_network, parameter_count
from kod_bench.networks.unet import pad_sphere

SIZES = {"width": 8, "multipliers": (1, 2), "blocks": 1}


def randomised(network):
    """Weights of no layer zero, as after training."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def on_sphere(process, **changes):
    return make_network(
        periodic=process.periodic,
        channels=process.shape[0],
        image_size=process.shape[1],
        steps=process.steps,
        grid=process.grid,
        **(SIZES | {"padding": "sphere"} | changes),
    )


def test_across_a_pole_a_smooth_function_goes_on():
    # Rows beyond the poles, by the harmonics themselves: theta < 0 is -theta, half way around.
    grid = sphere_grid(8)
    weights = torch.randn(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    phi = grid.longitudes
    north = grid.colatitudes[0].expand(len(phi))
    across = real_harmonics(3, north, phi + math.pi) @ weights
    field = (grid.synthesis[:, :9] @ weights).view(1, 1, 8, 16)
    padded = pad_sphere(field)
    assert padded.shape == (1, 1, 10, 18)
    assert torch.allclose(padded[0, 0, 0, 1:-1], across, atol=1e-12)
    assert torch.equal(padded[0, 0, 1:-1, 0], field[0, 0, :, -1])
    assert torch.equal(padded[0, 0, 1:-1, -1], field[0, 0, :, 0])
    assert torch.equal(padded[0, 0, -1, 1:-1], field[0, 0, -1].roll(8))


@pytest.mark.parametrize("turn", [2, 4, 10])
def test_turning_the_sphere_turns_the_answer(turn):
    # By a multiple of what the network's levels halve the longitudes to.
    process = SphereDiffusion(shape=(2, 8, 16), steps=10)
    network = randomised(on_sphere(process))
    grid = process.noise.grid
    rotation = grid.analysis @ grid.synthesis.view(8, 16, 64).roll(turn, dims=1).flatten(0, 1)
    state = process.prior(3, torch.Generator().manual_seed(1))
    step = torch.tensor([1, 5, 10])

    def turned(x):
        return (x.flatten(2) @ rotation.float().mT).view(x.shape)

    answer = network(state, step)
    assert torch.allclose(network(turned(state), step), turned(answer), atol=1e-4)
    assert (turned(answer) - answer).abs().max() > 0.1


def test_with_zeros_beyond_the_edges_it_does_not():
    process = SphereDiffusion(shape=(1, 8, 16), steps=10)
    network = randomised(on_sphere(process, padding="zeros"))
    fields = torch.randn(1, 1, 8, 16, generator=torch.Generator().manual_seed(1))
    step = torch.tensor([3])
    answer = network.unet(fields, step)
    assert (network.unet(fields.roll(4, 3), step) - answer.roll(4, 3)).abs().max() > 0.01


def test_it_has_the_size_of_the_network_on_images():
    process = SphereDiffusion(shape=(1, 8, 16), steps=10)
    network = on_sphere(process)
    assert isinstance(network, GridNetwork)
    plain = make_network(periodic=False, channels=1, image_size=8, steps=10, **SIZES)
    assert parameter_count(network) == parameter_count(plain)
    # The transforms come from the process; a checkpoint holds weights alone.
    assert set(network.state_dict()) == set(plain.state_dict())


def test_transforms_stay_exact_under_autocast():
    process = SphereDiffusion(shape=(1, 8, 16), steps=10)
    network = on_sphere(process)
    network.unet = Echo()
    state = process.prior(2, torch.Generator().manual_seed(1))
    plain = network(state, torch.tensor([1, 2]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(network(state, torch.tensor([1, 2])), plain)
    # The answer to a field that is the state's own is the state, as the prediction counts it.
    white = process._linear(process._to_prediction, state)
    assert torch.allclose(plain, white, atol=1e-4)


class Echo(torch.nn.Module):
    """Answers with what it sees."""

    def forward(self, x, step):
        return x
