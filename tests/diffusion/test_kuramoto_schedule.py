import numpy as np
import pytest
import torch

from kod_bench.diffusion import KuramotoDiffusion, released_schedule
from kod_bench.diffusion.kuramoto_schedule import ramp


@pytest.mark.parametrize(
    ("steps", "noise", "coupling"), [(100, 0.1, 0.03), (300, 0.07, 0.02), (1000, 0.015, 0.0045)]
)
def test_the_released_ones_are_reproduced(steps, noise, coupling):
    schedule = released_schedule(steps)
    assert np.allclose(schedule.noise_variance, np.linspace(1e-4, noise, steps), rtol=1e-13)
    assert np.allclose(schedule.coupling, np.linspace(3e-5, coupling, steps), rtol=1e-13)


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50, 100, 173, 300, 650, 1000, 5000, 10**6])
def test_any_number_of_steps_runs_the_same_clock(steps):
    schedule = released_schedule(steps)
    assert len(schedule.noise_variance) == len(schedule.coupling) == steps
    assert (schedule.noise_variance > 0).all()
    assert (schedule.noise_variance.diff() >= 0).all()
    assert 5 < schedule.noise_variance.sum() < 10.6
    ratio = (schedule.coupling / schedule.noise_variance)[-1].item()
    assert 0.28 < ratio < 0.3001


def test_interpolation_is_continuous_and_between_its_neighbours():
    clock = [released_schedule(t).noise_variance.sum().item() for t in range(95, 310)]
    assert np.abs(np.diff(clock)).max() < 0.06
    assert released_schedule(50).noise_variance[-1].item() == pytest.approx(0.2, rel=1e-3)


@pytest.mark.parametrize("name", ["released-100", "released-300", "released-1000"])
def test_presets_are_the_released_ones_in_any_number_of_steps(name):
    steps = int(name.removeprefix("released-"))
    named, own = released_schedule(steps, name), released_schedule(steps)
    assert torch.equal(named.noise_variance, own.noise_variance)
    assert torch.equal(named.coupling, own.coupling)
    coarse = KuramotoDiffusion(shape=(1, 4, 4), steps=40, schedule=name)
    fine = KuramotoDiffusion(shape=(1, 4, 4), steps=steps, schedule=name)
    clocks = [each.noise_std.values.square().sum() for each in (coarse, fine)]
    assert torch.allclose(*clocks, rtol=1e-12)
    assert coarse.concentration == pytest.approx(fine.concentration, rel=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 7, 100, 1000])
@pytest.mark.parametrize("shape", ["linear", "quadratic", "cosine", "constant"])
def test_ramps_share_total_time_and_final_ratio(shape, steps):
    released = released_schedule(steps)
    found = released_schedule(steps, shape=shape)
    noise, coupling = found.noise_variance, found.coupling
    assert noise.sum().item() == pytest.approx(released.noise_variance.sum().item(), rel=1e-12)
    assert (noise.diff() >= -1e-18).all()
    ratios = [(s.coupling / s.noise_variance)[-1].item() for s in (found, released)]
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-12)
    if shape != "constant" and steps > 1:
        assert noise[0] == released.noise_variance[0]
        assert coupling[0] == released.coupling[0]


def test_how_ramps_grow():
    def shares(shape):
        values = ramp(1.0, 3.0, 5, shape)
        return ((values - 1) / 2).tolist()

    assert shares("linear") == [0, 0.25, 0.5, 0.75, 1]
    assert shares("quadratic") == [0, 0.0625, 0.25, 0.5625, 1]
    assert shares("cosine") == pytest.approx([0, (1 - 0.5**0.5) / 2, 0.5, (1 + 0.5**0.5) / 2, 1])
    assert shares("constant") == [1] * 5
    process = KuramotoDiffusion(shape=(1, 2, 2), steps=5, noise_range=(0.1, 0.3), ramp="quadratic")
    variance = process.noise_std.values.square()
    assert torch.allclose(variance, ramp(0.1, 0.3, 5, "quadratic"))
