import math

import pytest
import torch

from kod_bench.diffusion import KuramotoDiffusion, released_schedule


@pytest.mark.parametrize(
    ("steps", "chain_steps"), [(1, 1), (2, 1), (3, 1), (6, 2), (25, 8), (90, 30), (1000, 30)]
)
def test_chain_steps_are_a_third_of_the_way_by_default(steps, chain_steps):
    assert KuramotoDiffusion(shape=(1, 1, 1), steps=steps).chain_steps == chain_steps


def test_total_time_runs_the_same_equation_longer():
    short = KuramotoDiffusion(shape=(1, 4, 4), steps=100)
    long = KuramotoDiffusion(shape=(1, 4, 4), steps=100, total_time=10)
    assert long.noise_std.values.square().sum().item() == pytest.approx(10, rel=1e-12)
    assert long.concentration == pytest.approx(short.concentration, rel=1e-12)
    for one, other in (
        (long.coupling_strength, short.coupling_strength),
        (long.reference_strength, short.reference_strength),
    ):
        assert torch.allclose(one.values, other.values * (10 / 5.005), rtol=1e-12)


def test_strength_multiplies_what_is_left_to_its_default():
    plain, double, mixed = (
        KuramotoDiffusion(shape=(1, 4, 4), steps=10, coupling="local", **parameters)
        for parameters in ({}, {"strength": 2}, {"strength": 2, "reference_strength": 0.1})
    )
    assert torch.equal(double.noise_std.values, plain.noise_std.values)
    for other in (double, mixed):
        ratio = other.coupling_strength.values / plain.coupling_strength.values
        assert torch.allclose(ratio, torch.full((10,), 2.0).double(), rtol=1e-12)
    ratio = double.reference_strength.values / plain.reference_strength.values
    assert torch.allclose(ratio, torch.full((10,), 2.0).double(), rtol=1e-12)
    assert mixed.reference_strength[10] == pytest.approx(0.1)


def test_ratios_are_strengths_relative_to_the_noise():
    process = KuramotoDiffusion(
        shape=(1, 4, 4),
        steps=10,
        noise_range=(0.01, 0.3),
        coupling_ratio=0.4,
        reference_ratio=0.6,
    )
    variance = process.noise_std.values.square()
    assert torch.allclose(process.coupling_strength.values, 0.4 * variance, rtol=1e-12)
    assert torch.allclose(process.reference_strength.values, 0.6 * variance, rtol=1e-12)
    released, same = (
        KuramotoDiffusion(shape=(1, 4, 4), steps=100, **parameters)
        for parameters in ({}, {"coupling_ratio": 0.3, "reference_ratio": 0.45})
    )
    for one, other in (
        (released.coupling_strength, same.coupling_strength),
        (released.reference_strength, same.reference_strength),
    ):
        assert torch.allclose(one.values, other.values, rtol=1e-12)


def test_strengths_and_noise_follow_their_parameters():
    process = KuramotoDiffusion(
        shape=(1, 4, 4),
        steps=100,
        coupling="local",
        coupling_strength=0.06,
        reference_strength=0.09,
        noise_range=(1e-3, 0.2),
    )
    released = released_schedule(100)
    assert torch.allclose(process.coupling_strength.values, 2 * released.coupling)
    assert torch.allclose(process.reference_strength.values, 3 * released.coupling)
    squares = process.noise_std.values.square()
    assert torch.allclose(squares, torch.linspace(1e-3, 0.2, 100, dtype=torch.float64))
    order = process.terminal_order
    assert process.concentration == pytest.approx((0.06 * order + 0.09) / 0.1, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"shape": (1, 0, 4)}, r"shape must be three positive sizes \(C, H, W\)"),
        ({"shape": (4, 4)}, r"shape must be three positive sizes \(C, H, W\)"),
        ({"coupling": "loca"}, r"coupling must be one of \('global', 'local', 'none'\)"),
        ({"coupling_strength": -0.1}, r"coupling_strength must lie in \[0, infinity\)"),
        ({"coupling_strength": math.nan}, "coupling_strength"),
        ({"reference_strength": math.inf}, "reference_strength"),
        ({"reference_phase": 4.0}, r"reference_phase must lie in \[-3.14159, 3.14159\]"),
        ({"coupling": "none", "coupling_strength": 0.1}, "but coupling is 'none'"),
        ({"noise_range": (0.0, 0.1)}, r"noise_range must lie in \(0, 16\], got 0.0"),
        ({"noise_range": (0.1, 17.0)}, r"noise_range must lie in \(0, 16\], got 17.0"),
        ({"neighbourhood_radius": -1}, "neighbourhood_radius must be at least 0, got -1"),
        ({"phase_margin": 0.0}, r"phase_margin must lie in \(0, 1\], got 0.0"),
        ({"phase_margin": 1.1}, r"phase_margin must lie in \(0, 1\], got 1.1"),
        ({"neighbourhood_radius": 2.5}, "neighbourhood_radius must be a whole number, got 2.5"),
        ({"noise_range": (0.1, 0.2, 0.3)}, "noise_range must be a pair"),
        ({"noise_range": 0.1}, "noise_range must be a pair"),
        ({"coupling_strength": "0.1"}, "coupling_strength must be a number, got '0.1'"),
        ({"pool_size": 0}, "pool_size must be at least 1, got 0"),
        ({"neighbourhood": "disc"}, r"neighbourhood must be one of \('box', 'gaussian'\)"),
        ({"schedule": "released-50"}, r"schedule must be one of \('released', 'released-100'"),
        ({"total_time": 0}, r"total_time must lie in \(0, infinity\), got 0"),
        ({"total_time": 100.0}, "total_time is 100.0 in 10 steps; each step's share must be"),
        ({"total_time": 5.0, "noise_range": (0.1, 0.2)}, "which fixes it; leave one of them"),
        ({"strength": -1}, r"strength must lie in \[0, infinity\), got -1"),
        ({"coupling_ratio": -0.1}, r"coupling_ratio must lie in \[0, infinity\)"),
        (
            {"coupling_ratio": 0.3, "coupling_strength": 0.1},
            "coupling_strength is 0.1 and coupling_ratio is 0.3; leave one of them out",
        ),
        (
            {"reference_ratio": 0.3, "reference_strength": 0.1},
            "reference_strength is 0.1 and reference_ratio is 0.3; leave one of them out",
        ),
        ({"coupling": "none", "coupling_ratio": 0.1}, "but coupling is 'none'"),
        ({"calibration_chains": 1}, "calibration_chains must be at least 2, got 1"),
        (
            {"target": "two-step"},
            r"target must be one of \('path', 'conditional', 'one-step'\)",
        ),
        ({"memory": 0}, "memory must be at least 1, got 0"),
        ({"memory": 4, "target": "one-step"}, "memory is 4 but target is 'one-step'"),
        ({"memory": 1, "target": "conditional"}, "memory is 1 but target is 'conditional'"),
        ({"ramp": "square"}, r"ramp must be one of \('linear', 'quadratic', 'cosine'"),
        ({"ramp": "constant", "noise_range": (0.1, 0.2)}, "two values"),
        ({"loss_weight": "snr"}, r"loss_weight must be one of \('unit', 'likelihood'"),
        ({"final_noise": True}, "final_noise is true but variance is 'posterior'"),
        ({"variance": "larger"}, "variance must be one of"),
        ({"chain_steps": 0}, "chain_steps must be at least 1, got 0"),
    ],
)
def test_impossible_values_are_refused_with_what_is_allowed(change, message):
    arguments = {"shape": (1, 4, 4), "steps": 10} | change
    with pytest.raises(ValueError, match=message):
        KuramotoDiffusion(**arguments)


def test_black_and_white_are_opposite_ends_of_the_margin():
    process = KuramotoDiffusion(shape=(1, 1, 3), steps=10, phase_margin=0.7)
    theta = process.encode(torch.tensor([[[[-1.0, 0.0, 1.0]]]]))
    assert torch.allclose(theta.flatten(), torch.tensor([-0.7, 0.0, 0.7]) * math.pi)
    gap = torch.tensor([[[[-3.1, 0.1, 3.1]]]])
    assert process.decode(gap)[0, 0, 0, [0, 2]].tolist() == [-1, 1]
