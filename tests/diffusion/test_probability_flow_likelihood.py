"""Bits per dimension by the probability flow: exact where the data are Gaussian and known."""

import math

import pytest
import torch

from kod_bench.diffusion import (
    DDPM,
    EDM,
    FlowMatching,
    ScoreSDE,
    SphereDiffusion,
    VarianceExploding,
)
from kod_bench.diffusion.divergence import with_divergence
from kod_bench.diffusion.heat_likelihood import dequantised
from kod_bench.diffusion.probability_flow_likelihood import flow_likelihood

MEAN, STD = 0.1, 0.2  # in units in which images span [-1, 1]
SHAPE = (1, 4, 4)

PROCESSES = {
    "ddpm": lambda steps: DDPM(shape=SHAPE, steps=steps),
    "cosine": lambda steps: DDPM(shape=SHAPE, steps=steps, schedule="cosine"),
    "sgm-vp": lambda steps: ScoreSDE(shape=SHAPE, steps=steps),
    "sgm-ve": lambda steps: ScoreSDE(shape=SHAPE, steps=steps, kernel="ve"),
    "edm": lambda steps: EDM(shape=SHAPE, steps=steps, data_std=0.3),
    "ve": lambda steps: VarianceExploding(shape=SHAPE, steps=steps),
    "flow-matching": lambda steps: FlowMatching(shape=SHAPE, steps=steps, data_std=0.4),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def covariance(correlation):
    """Of neighbouring pixels of a row, the correlation."""
    places = torch.arange(16)
    rows, columns = places // 4, places % 4
    same = (rows.unsqueeze(1) == rows).double()
    apart = (columns.unsqueeze(1) - columns).abs().double()
    return STD**2 * same * correlation**apart if correlation else STD**2 * torch.eye(16).double()


def drawn(number, spread):
    normal = torch.randn(number, 16, generator=generator(1), dtype=torch.float64)
    values = MEAN + normal @ torch.linalg.cholesky(spread).T
    return ((values + 1) * 128).floor().clamp(0, 255).to(torch.uint8).view(number, *SHAPE)


def exact(process, spread):
    """A network that knows N(MEAN, spread), in the process's own terms."""

    def predict(state, step):
        t = int(step[0])
        signal, noise = process.signal[t], process.noise_std[t]
        total = signal**2 * spread + noise**2 * torch.eye(16).double()
        gain = torch.linalg.solve(total, spread).T * signal
        flat = state.double().flatten(1)
        image = (MEAN + (flat - signal * MEAN) @ gain.T).view(state.shape)
        eps = (state.double() - signal * image) / noise
        return process.target(image, eps, step)

    return predict


def true_bits(images, spread):
    """Of the same draws within gray levels."""
    values = 2 * dequantised(images, generator(2)).flatten(1) - 1
    law = torch.distributions.MultivariateNormal(torch.full((16,), MEAN).double(), spread)
    nats = -law.log_prob(values) - 16 * math.log(2)
    return nats / (16 * math.log(2)) + 8


@pytest.mark.parametrize("name", PROCESSES)
def test_independent_pixels_have_the_bits_of_their_law(name):
    process, spread = PROCESSES[name](400), covariance(0)
    images = drawn(6, spread)
    # Of a diagonal Jacobian Hutchinson's estimate has no error.
    found = flow_likelihood(process, exact(process, spread), images, generator(2), jumps=399)
    error = (found.bits_per_dimension - true_bits(images, spread)).abs().max()
    assert error < 0.02
    assert found.mean == pytest.approx(found.bits_per_dimension.mean().item())


def test_correlated_pixels_have_the_bits_of_their_law_within_the_standard_error():
    process, spread = PROCESSES["sgm-vp"](100), covariance(0.8)
    images = drawn(64, spread)
    predict, truth = exact(process, spread), true_bits(images, spread)
    one = flow_likelihood(process, predict, images, generator(2))
    off = one.bits_per_dimension - truth
    assert 0 < off.std() < 0.5  # Hutchinson's noise
    assert abs(off.mean()) < 4 * off.std() / 8 + 0.02
    many = flow_likelihood(process, predict, images, generator(2), probes=8)
    assert (many.bits_per_dimension - truth).std() < 0.6 * off.std()
    expected = one.bits_per_dimension.std().item() / 8
    assert one.standard_error == pytest.approx(expected)
    # A network that takes pixels for independent pays for it.
    worse = flow_likelihood(process, exact(process, covariance(0)), images, generator(2))
    assert worse.mean > one.mean + 0.1


def test_more_jumps_come_nearer():
    process, spread = PROCESSES["flow-matching"](800), covariance(0)
    images = drawn(4, spread)
    predict, truth = exact(process, spread), true_bits(images, spread)
    errors = [
        (flow_likelihood(process, predict, images, generator(2), jumps=jumps).mean - truth.mean())
        for jumps in (20, 200)
    ]
    assert abs(errors[1]) < 0.3 * abs(errors[0])


def test_the_divergence_is_unbiased():
    matrix = torch.randn(16, 16, generator=generator(4), dtype=torch.float64)
    state = torch.randn(500, 1, 4, 4, generator=generator(5), dtype=torch.float64)
    value, found = with_divergence(
        lambda x: (x.flatten(1) @ matrix.T).view(x.shape), state, 4, generator(6)
    )
    assert torch.allclose(value.flatten(1), state.flatten(1) @ matrix.T)
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean() - matrix.trace()) < 4 * error


def test_what_cannot_be_is_refused():
    process = PROCESSES["ddpm"](10)
    predict, images = exact(process, covariance(0)), drawn(2, covariance(0))
    for changes, message in (
        ({"probes": 0}, "probes must be at least 1"),
        ({"jumps": 10}, "jumps must be at most T - 1 = 9, got 10"),
        ({"jumps": 0}, "jumps must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            flow_likelihood(process, predict, images, generator(), **changes)
    with pytest.raises(ValueError, match="expected"):
        flow_likelihood(process, predict, images[:, :, :2], generator())
    sphere = SphereDiffusion(shape=(1, 4, 8), steps=4)
    with pytest.raises(ValueError, match="images as they are"):
        flow_likelihood(sphere, predict, images, generator())
    # One step has no jump but the first.
    alone = PROCESSES["ddpm"](1)
    assert flow_likelihood(alone, exact(alone, covariance(0)), images, generator()).mean > 0
