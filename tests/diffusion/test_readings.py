"""Angles as images: native on phases; the number or the point of the circle on pixels."""

import math

import pytest
import torch

from kod_bench.diffusion import PROCESSES, make_process, process_parameters, sample
from kod_bench.diffusion.readings import from_circle, onto_disc, to_circle
from kod_bench.sweeps.space.variants import check_parameters

ON_PIXELS = ("blurring", "ddpm", "edm", "flow-matching", "heat", "sgm", "ve")
ON_PHASES = ("kuramoto", "torus-flow", "wrapped")


def angles(count: int) -> torch.Tensor:
    """Angles over pi, the cut among them."""
    values = torch.linspace(-1, 1, count * 16 + 1)[:-1]
    return values.view(count, 1, 4, 4)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest angle between images of angles, in radians."""
    return float(
        torch.remainder(math.pi * (one - other) + math.pi, 2 * math.pi).sub(math.pi).abs().max()
    )


def test_every_process_says_how_it_takes_angles() -> None:
    assert {name for name in PROCESSES if PROCESSES[name].angle_readings} == {
        *ON_PIXELS,
        *ON_PHASES,
    }
    for name, process in PROCESSES.items():
        assert ("reading" in process_parameters(name)) is bool(process.angle_readings)
    assert all(PROCESSES[name].angle_readings == ("circle", "angle") for name in ON_PIXELS)
    assert all(PROCESSES[name].angle_readings == ("angle",) for name in ON_PHASES)


@pytest.mark.parametrize("name", [*ON_PIXELS, *ON_PHASES])
def test_angles_come_back_whatever_the_reading(name: str) -> None:
    for reading in PROCESSES[name].angle_readings:
        process = make_process(name, shape=(1, 4, 4), steps=5, reading=reading)
        images = angles(6)
        assert images.min() == -1
        state = process.encode(images)
        assert state.shape[1:] == process.state_shape
        assert process.state_shape[0] == type(process).state_channels(1, {"reading": reading})
        assert distance(process.decode(state), images) < 1e-5
        if process.periodic:
            assert torch.allclose(state, math.pi * images, atol=1e-6)


def test_the_circle_has_no_cut() -> None:
    before, after = torch.full((1, 2, 1, 1), 0.9999), torch.full((1, 2, 1, 1), -0.9999)
    assert (to_circle(before) - to_circle(after)).abs().max() < 1e-3
    assert torch.equal(to_circle(before)[:, :2], (math.pi * before).cos())
    opposite = torch.tensor([-1.0, 0.0]).view(1, 2, 1, 1)
    for sign in (1, -1):
        assert from_circle(opposite * torch.tensor([1.0, sign]).view(1, 2, 1, 1)).item() == -1
    # The length says nothing.
    assert torch.allclose(from_circle(0.1 * to_circle(before)), before)


def test_averages_of_points_are_kept_on_the_disc() -> None:
    planes = torch.tensor([[3.0, 0.5], [4.0, 0.5]]).view(1, 2, 1, 2)
    expected = torch.tensor([[0.6, 0.5], [0.8, 0.5]]).view(1, 2, 1, 2)
    assert torch.allclose(onto_disc(planes), expected)
    # The corner of the square, where a number at a time would leave it.
    process = make_process("ddpm", shape=(1, 1, 1), steps=10, reading="circle")
    state = torch.full((1, 2, 1, 1), 5.0)
    end = process.reverse_step(state, 10, 0, -state, torch.Generator().manual_seed(0))
    assert torch.linalg.vector_norm(end).item() == pytest.approx(1)


@pytest.mark.parametrize("name", ["edm", "flow-matching"])
def test_the_standard_deviation_is_of_what_is_read(name: str) -> None:
    def images(count: int) -> torch.Tensor:
        return torch.zeros(count, 1, 4, 4)

    process = make_process(name, shape=(1, 4, 4), steps=5, reading="circle")
    process.fit(images, torch.Generator().manual_seed(0))
    assert process.data_std == pytest.approx(math.sqrt(0.5))  # type: ignore[attr-defined]


def test_samples_on_the_circle_are_angles_of_as_many_channels() -> None:
    process = make_process("ve", shape=(3, 4, 4), steps=5, reading="circle")
    drawn = sample(process, lambda x, t: 0.1 * x, 2, torch.Generator().manual_seed(0))
    assert drawn.shape == (2, 3, 4, 4)
    assert bool((drawn >= -1).all() and (drawn < 1).all())


@pytest.mark.parametrize("name", ON_PHASES)
def test_angles_have_no_margin(name: str) -> None:
    with pytest.raises(ValueError, match=r"phase_margin is 0\.9 but reading is 'angle'"):
        make_process(name, shape=(1, 4, 4), steps=5, reading="angle", phase_margin=0.9)
    with pytest.raises(ValueError, match="reading must be one of"):
        make_process(name, shape=(1, 4, 4), steps=5, reading="circle")


def test_trials_on_intensities_are_known_as_before_there_were_readings() -> None:
    for name in ON_PIXELS:
        assert "reading" not in check_parameters(name, {"steps": 5}).values
        said = check_parameters(name, {"steps": 5, "reading": "circle"}).values
        assert said["reading"] == "circle"
    assert check_parameters("kuramoto", {"steps": 5}).values["phase_margin"] == 0.9
    for name in ON_PHASES:
        of_angles = check_parameters(name, {"steps": 5, "reading": "angle"}).values
        assert of_angles["reading"] == "angle"
        assert "phase_margin" not in of_angles
        make_process(name, shape=(1, 4, 4), steps=5, **of_angles)
