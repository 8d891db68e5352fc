"""Blurring diffusion: its schedules in each cosine mode, its chain, and its ways back."""

import math
from itertools import islice

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.fft import dctn, idctn

from kod_bench.diffusion import BlurringDiffusion, sample

SHAPE = (2, 6, 8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(steps=40, **parameters):
    return BlurringDiffusion(shape=SHAPE, steps=steps, **parameters)


def written_schedule(time, blur_max=20.0, least=0.001):
    """alpha (H, W) and sigma as the paper's appendix computes them, from t in [0, 1]."""
    lowest, highest = (math.atan(math.exp(-0.5 * value)) for value in (10, -10))
    log_snr = -2 * math.log(math.tan(lowest + (highest - lowest) * time))
    a, sigma = math.sqrt(1 / (1 + math.exp(-log_snr))), math.sqrt(1 / (1 + math.exp(log_snr)))
    dissipation = (blur_max * math.sin(time * math.pi / 2) ** 2) ** 2 / 2
    rows, columns = (np.pi * np.arange(size) / size for size in SHAPE[1:])
    rate = rows[:, None] ** 2 + columns[None] ** 2
    return a * (np.exp(-rate * dissipation) * (1 - least) + least), sigma


def modes(images):
    return dctn(np.asarray(images), axes=(-2, -1), norm="ortho")


def pixels(coefficients):
    return torch.from_numpy(idctn(coefficients, axes=(-2, -1), norm="ortho"))


def test_each_mode_has_its_own_signal():
    process = make()
    exact = torch.empty((), dtype=torch.float64)
    for step in (1, 13, 40):
        alpha, sigma = written_schedule(step / 40)
        assert np.allclose(process.kept(step, exact), alpha, rtol=1e-9)
        assert process.noise_std[step] == pytest.approx(sigma)
    assert torch.allclose(process.kept(0, exact), torch.ones(6, 8, dtype=torch.float64))


def test_training_states_are_faded_images_with_their_noise():
    process = make()
    image = torch.rand(*SHAPE, generator=generator(1), dtype=torch.float64) * 2 - 1
    batches = process.training_batches(lambda n: image.expand(n, *SHAPE), 8, generator())
    for batch in islice(batches, 5):
        for state, step, target in zip(batch.state, batch.step, batch.target, strict=True):
            alpha, sigma = written_schedule(step.item() / 40)
            expected = pixels(alpha * modes(image)) + sigma * target
            assert torch.allclose(state, expected, atol=1e-9)


def test_the_forward_chain_has_the_laws_of_training():
    process, rng = make(10), generator()
    image = torch.rand(*SHAPE, generator=generator(1)) * 2 - 1
    state = image.expand(3000, *SHAPE)
    for t in range(1, 11):
        state = process.forward_step(state, t, rng)
        if t in (1, 5, 10):
            alpha, sigma = written_schedule(t / 10)
            centred = (state - pixels(alpha * modes(image)).float()) / sigma
            assert stats.kstest(centred.flatten().numpy(), stats.norm.cdf).pvalue > 0.001
            # Noise of all modes is independent and of the same size, though the chain's is not.
            spread = modes(centred).reshape(-1, 48).std(0)
            assert np.abs(spread - 1).max() < 0.06


@pytest.mark.parametrize("to", [19, 8])
def test_an_ancestral_step_is_bayes_rule_in_each_mode(to):
    process, step = make(), 20
    rng = generator(1)
    image = 2 * torch.rand(*SHAPE, generator=rng, dtype=torch.float64) - 1
    noise = torch.randn(*SHAPE, generator=rng, dtype=torch.float64)
    (alpha, sigma), (before, spread) = (written_schedule(t / 40) for t in (step, to))
    state = pixels(alpha * modes(image)) + sigma * noise
    number = 4000
    drawn = process.reverse_step(
        state.expand(number, *SHAPE), step, to, noise.expand(number, *SHAPE), generator()
    )
    # Two Gaussians in u_u: from the image before it, and through the kernel from the state after.
    share = alpha / before
    added = sigma**2 - share**2 * spread**2
    precision = 1 / spread**2 + share**2 / added
    mean = (before * modes(image) / spread**2 + share * modes(state) / added) / precision
    standard = (modes(drawn) - mean) * np.sqrt(precision)
    assert stats.kstest(standard.ravel(), stats.norm.cdf).pvalue > 0.001
    flow = process.reverse_step(state[None], step, to, noise[None], rng, "ddim")
    expected = pixels(before * modes(image)) + spread * noise
    assert torch.allclose(flow[0], expected, atol=1e-8)


@pytest.mark.parametrize("sampler", BlurringDiffusion.samplers)
def test_the_exact_prediction_recovers_a_normal_law_of_modes(sampler):
    # Modes of images N(0, power), smooth as pictures are. At T = 300 "ancestral", whose noise is as
    # if u_0 were known, makes them 0.89 of that on average, at 1,200 0.96.
    process = make(1200, blur_max=3.0)
    exact = torch.empty((), dtype=torch.float64)
    rows, columns = (torch.arange(size).double() for size in SHAPE[1:])
    power = 0.2 / (1 + rows.unsqueeze(1) ** 2 + columns**2)

    def predict(state, step):
        t = int(step[0])
        alpha, sigma = process.kept(t, exact), process.noise_std[t]
        answer = sigma / (alpha**2 * power + sigma**2) * torch.from_numpy(modes(state.double()))
        return pixels(answer.numpy()).to(state.dtype)

    drawn = sample(process, predict, 1500, generator(1), sampler=sampler)
    found = torch.from_numpy(modes(drawn.double())).var((0, 1))
    # Only what lies beyond [-1, 1] is lost; 3,000 draws a mode.
    assert torch.allclose(found, power, rtol=0.15)


def test_without_blur_it_is_ddpm_in_the_same_schedule():
    process = make(blur_max=0.0)
    state = torch.randn(3, *SHAPE, generator=generator(), dtype=torch.float64)
    noise = torch.randn(3, *SHAPE, generator=generator(1), dtype=torch.float64)
    (now, sigma), (then, spread) = (
        (alpha[0, 0], std) for alpha, std in (written_schedule(t / 40) for t in (20, 12))
    )
    found = process.reverse_step(state, 20, 12, noise, generator(), "ddim")
    image = (state - sigma * noise) / now
    assert torch.allclose(found, then * image + spread * noise)


def test_fine_detail_goes_first():
    process = make(blur_max=2.0)
    kept = process.kept(20, torch.empty((), dtype=torch.float64))
    assert (kept[1:] < kept[:-1]).all()
    assert (kept[:, 1:] < kept[:, :-1]).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"blur_max": -1.0}, "blur_max must lie in"),
        ({"least_kept": 0.0}, r"least_kept must lie in \(0"),
        ({"least_kept": 1.5}, "least_kept must lie in"),
    ],
)
def test_impossible_values_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        make(**parameters)
