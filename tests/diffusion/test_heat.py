"""Identities of heat dissipation, numbered as in the study of the method."""

import math
from itertools import islice

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from scipy.fft import dct

from kod_bench.diffusion import HeatDissipation, sample
from kod_bench.diffusion.cosine_transform import cosine_matrix
from kod_bench.diffusion.heat import RELEASED_SCHEDULES


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(shape=(2, 12, 16), steps=20, **parameters):
    return HeatDissipation(shape=shape, steps=steps, **{"prior_images": 64, **parameters})


def blurring(std, shape=(2, 12, 16)):
    """A process whose first level has this blur."""
    return make(shape, 1, blur_range=(std, std))


def images(number, shape=(2, 12, 16), seed=0):
    return 2 * torch.rand(number, *shape, generator=generator(seed)) - 1


def fitted(shape=(1, 8, 8), steps=20, **parameters):
    process = make(shape, steps, **parameters)
    process.fit(lambda number: images(number, shape, 7), generator())
    return process


def states(number=3):
    return torch.rand(number, 2, 12, 16, generator=generator(), dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 2, 7, 32])
def test_the_cosine_transform_is_scipys(size):
    assert np.allclose(cosine_matrix(size), dct(np.eye(size), axis=0, norm="ortho"), atol=1e-12)


@pytest.mark.parametrize(("std", "accuracy"), [(2.0, 1e-9), (4.0, 1e-12)])
def test_i1_it_is_a_gaussian_blur_with_reflected_edges(std, accuracy):
    shape = (1, 32, 40)
    state = torch.rand(1, *shape, generator=generator(), dtype=torch.float64)
    blurred = blurring(std, shape).dissipate(state, 1)
    expected = ndimage.gaussian_filter(state[0, 0].numpy(), std, mode="reflect", truncate=12)
    assert np.abs(blurred[0, 0].numpy() - expected).max() < accuracy


def test_i2_blurs_add_up_as_variances():
    three, four, five = (blurring(std) for std in (3.0, 4.0, 5.0))
    twice = four.dissipate(three.dissipate(states(), 1), 1)
    assert torch.allclose(twice, five.dissipate(states(), 1), atol=1e-14)


def test_i3_brightness_stays():
    blurred = blurring(3.0).dissipate(states(), 1)
    assert torch.allclose(blurred.mean((2, 3)), states().mean((2, 3)), atol=1e-14)


def test_i4_it_is_symmetric_and_knows_no_direction():
    process, other = blurring(2.0), blurring(2.0, (2, 16, 12))
    one, two = states(1), states(2)[1:]
    blurred = process.dissipate(one, 1)
    assert torch.allclose(process.dissipate(one.flip(2), 1), blurred.flip(2), atol=1e-13)
    assert torch.allclose(process.dissipate(one.flip(3), 1), blurred.flip(3), atol=1e-13)
    turned = other.dissipate(one.transpose(2, 3), 1)
    assert torch.allclose(turned, blurred.transpose(2, 3), atol=1e-13)
    across = (blurred * two).sum() - (one * process.dissipate(two, 1)).sum()
    assert abs(across.item()) < 1e-12


def test_i5_level_zero_is_the_image():
    assert torch.allclose(make().dissipate(states(), 0), states(), atol=1e-14)


@pytest.mark.parametrize(("std", "least"), [(0.5, -0.0126), (1.0, -6e-5), (2.0, -9e-13)])
def test_i6_a_narrow_blur_rings_a_little(std, least):
    shape = (1, 33, 33)
    impulse = torch.zeros(1, *shape, dtype=torch.float64)
    impulse[0, 0, 16, 16] = 1
    lowest = blurring(std, shape).dissipate(impulse, 1).min().item()
    assert lowest == pytest.approx(least, rel=0.15, abs=1e-12)


def test_i7_every_mode_decays_by_its_own_factor():
    process = make(steps=30)
    start = process.modes(states())
    before = start
    n, m = torch.meshgrid(torch.arange(12), torch.arange(16), indexing="ij")
    for level in range(1, 31):
        modes = process.modes(process.dissipate(states(), level))
        rate = math.pi**2 * ((n / 12).double() ** 2 + (m / 16).double() ** 2)
        factor = torch.exp(-rate * process.blur[level] ** 2 / 2)
        assert torch.allclose(modes, factor * start, atol=1e-13)
        assert (modes.abs() <= before.abs() + 1e-13).all()
        assert modes.square().sum() < before.square().sum()
        before = modes


@pytest.mark.parametrize(
    ("name", "ratio", "first_mode"),
    [
        ("mnist", 1.0380, 0.081),
        ("mnist-small", 1.0782, 0.081),
        ("cifar10", 1.0196, 0.062),
        ("afhq-64", 1.0211, 0.291),
        ("afhq-256", 1.0283, 0.291),
        ("ffhq-128", 1.0283, 0.007),
        ("ffhq-256", 1.0283, 0.291),
        ("lsun-church", 1.0122, 0.291),
    ],
)
def test_i8_the_released_schedules(name, ratio, first_mode):
    released = RELEASED_SCHEDULES[name]
    shape = (1, released.image_size, released.image_size)
    process = make(shape, released.steps, schedule=name)
    blur = process.blur.values
    assert (blur[0].item(), len(blur)) == (pytest.approx(0.5), released.steps)
    assert blur[-1].item() == pytest.approx(released.blur_max)
    assert torch.allclose(blur[1:] / blur[:-1], torch.tensor(ratio).double(), atol=5e-5)
    modes = torch.zeros(1, *shape, dtype=torch.float64)
    modes[..., 0, 1] = 1
    left = process.modes(process.dissipate(process.from_modes(modes), released.steps))
    left = left[0, 0, 0, 1].item()
    assert left == pytest.approx(first_mode, abs=6e-4)
    # Elsewhere the range is the same in other steps.
    assert make(steps=10, schedule=name).blur[10] == pytest.approx(released.blur_max)


def test_every_schedule_that_can_be_named_is_there():
    for name in RELEASED_SCHEDULES:
        make(schedule=name)
    assert make((1, 8, 20), 5).blur[5] == pytest.approx(10)


def test_i11_an_oracle_brings_the_image_back_and_costs_nothing():
    process = fitted(steps=12)
    shape = process.shape
    start = process.encode(images(3, shape, 7))

    def oracle(state, step):
        level = step[0].item()
        return (process.dissipate(start, level - 1) - state) / process.scale[level]

    for sampler in process.samplers:
        drawn = sample(process, oracle, 3, generator(), sampler=sampler)
        assert torch.allclose(process.encode(drawn), start, atol=1e-5)
    # Without noise in the state, the target is the oracle's answer.
    silent = fitted(steps=12, noise_std=1e-9)
    batches = silent.training_batches(lambda n: images(n, shape, 7), 3, generator(1))
    for batch in islice(batches, 5):
        sharper = torch.stack(
            [silent.dissipate(start[i : i + 1], int(t) - 1)[0] for i, t in enumerate(batch.step)]
        )
        scale = silent.scale.values[batch.step - 1].view(-1, 1, 1, 1).float()
        answer = (sharper - batch.state) / scale
        assert (answer - batch.target).square().mean() < 1e-6


def test_the_chain_has_the_stated_law_at_every_level():
    process, rng, number = make((1, 4, 4), 6, noise_std=0.1), generator(), 20_000
    start = torch.rand(1, 1, 4, 4, generator=rng)
    state = start.expand(number, 1, 4, 4)
    for level in range(1, 7):
        state = process.forward_step(state, level, rng)
        noise = (state - process.dissipate(start, level)).flatten(1).double()
        covariance = noise.T @ noise / number
        assert (noise.mean(0).abs() < 0.1 * 4.5 / math.sqrt(number)).all()
        assert (covariance - 0.01 * torch.eye(16)).abs().max() < 0.01 * 5 / math.sqrt(number / 2)


@pytest.mark.parametrize("weight", ["pixel", "unit"])
def test_the_loss_is_the_papers_up_to_a_factor(weight):
    process = fitted(steps=10, level_weight=weight)
    batches = process.training_batches(lambda n: images(n, process.shape, 7), 64, generator(2))
    errors = {}
    for batch in islice(batches, 10):
        # A guess of zero is wrong by F_{k-1} u_0 - u_k.
        scale = process.scale.values[batch.step - 1].view(-1, 1, 1, 1)
        paper = (scale * batch.target).square()
        ratio = (batch.weight * batch.target.square()).mean((1, 2, 3)) / paper.mean((1, 2, 3))
        for t, value in zip(batch.step.tolist(), ratio.tolist(), strict=True):
            errors.setdefault(t, []).append(value)
    means = torch.tensor([np.mean(errors[t]) for t in range(1, 11)])
    assert (torch.allclose(means, means[0], rtol=1e-4)) is (weight == "pixel")


def test_the_scale_is_the_targets_own():
    process = fitted(steps=8, level_weight="unit", prior_images=2000)
    batches = process.training_batches(lambda n: images(n, process.shape, 8), 500, generator(2))
    squares = {}
    for batch in islice(batches, 8):
        for t, target in zip(batch.step.tolist(), batch.target, strict=True):
            squares.setdefault(t, []).append(target.square().mean().item())
    for values in squares.values():
        assert np.mean(values) == pytest.approx(1, abs=0.03)


def test_as_released_the_last_level_is_not_trained_and_the_prior_has_no_noise():
    def source(number):
        return images(number, (1, 8, 8), 7)

    for released in (False, True):
        process = fitted(steps=5, as_released=released, delta=0.02)
        batches = process.training_batches(source, 200, generator(1))
        assert max(int(b.step.max()) for b in islice(batches, 3)) == 5 - released
        modes = process.modes(process.prior(400, generator(2)))
        # The highest mode: nothing is left of it in a blurred image.
        assert modes[..., -1, -1].std().item() == pytest.approx(0.02 * (not released), abs=3e-3)
    with pytest.raises(ValueError, match="as_released never trains level T: steps must be at"):
        make(steps=1, as_released=True)


def test_the_prior_is_a_blurred_training_image_with_the_samplers_noise():
    # One image: what is drawn is that one, and noise of delta.
    process = make((1, 8, 8), 10, delta=0.05, prior_images=3)
    one = images(1, (1, 8, 8))
    process.fit(lambda number: one.expand(number, 1, 8, 8), generator())
    drawn = process.prior(2000, generator(1))
    noise = (drawn - process.dissipate(process.encode(one), 10)).flatten().numpy() / 0.05
    assert stats.kstest(noise, stats.norm.cdf).pvalue > 0.01


def test_the_prior_keeps_few_numbers_per_image():
    process = fitted((3, 32, 32), 10)
    kept = process.prior_modes(torch.device("cpu"), torch.float32)
    assert kept.shape == (64, 3, 4, 4)
    blurred = process.dissipate(process.encode(images(64, (3, 32, 32), 7)), 10)
    modes = process.modes(blurred.double())
    assert torch.allclose(modes[..., :4, :4].float(), kept, atol=1e-5)
    assert modes.square().sum() - kept.double().square().sum() < 1e-8 * modes.square().sum()


@pytest.mark.parametrize("evaluations", [2, 5, 8])
def test_levels_are_skipped_by_linearity_where_the_noise_hides_nothing(evaluations):
    process = fitted(steps=20, blur_range=(0.5, 1.5), noise_std=1e-6, delta=0)
    start = process.encode(images(3, process.shape, 9))

    def oracle(state, step):
        level = step[0].item()
        return (process.dissipate(start, level - 1) - state) / process.scale[level]

    drawn = sample(process, oracle, 3, generator(), evaluations=evaluations)
    assert torch.allclose(process.encode(drawn), start, atol=2e-3)


def test_skipping_does_not_magnify_what_the_noise_hides():
    process = fitted((1, 16, 16), 40)
    white = 0.01 * torch.randn(50, 1, 16, 16, generator=generator())
    nothing = torch.zeros_like(white)
    back = process.reverse_step(white, 40, 0, nothing, generator())
    # By linearity alone a gain of exp(1e3).
    assert back.std() < 2 * white.std()
    # One level goes by the network's word alone.
    assert torch.equal(
        process.reverse_step(white, 40, 39, nothing, generator(), "noiseless"), white
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"schedule": "celeba"}, "schedule must be one of"),
        ({"blur_range": (2.0, 1.0)}, "blur_range must lie in"),
        ({"blur_range": (0.5, 3.0), "schedule": "mnist"}, "leave one of them out"),
        ({"noise_std": 0.0}, r"noise_std must lie in \(0"),
        ({"delta": -1.0}, r"delta must lie in \[0"),
        ({"prior_images": 0}, "prior_images must be at least 1"),
    ],
)
def test_impossible_values_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        HeatDissipation(shape=(1, 4, 4), steps=5, **parameters)


def test_what_needs_images_says_so():
    process = make()
    for use in (
        lambda: process.prior(1, generator()),
        lambda: process.training_batches(lambda n: images(n), 2, generator()),
        lambda: process.reverse_step(states(), 2, 1, states(), generator()),
    ):
        with pytest.raises(RuntimeError, match=r"call fit\(images, generator\)"):
            use()


def test_the_best_answers_draw_a_normal_law_in_small_levels():
    # Independent modes of known power. delta = sqrt(2) sigma is Langevin's step at every level.
    sigma, shape = 0.01, (1, 12, 12)
    process = make(shape, 80, delta=math.sqrt(2) * sigma, prior_images=2000)
    place = torch.arange(12, dtype=torch.float64)
    power = 0.5 / (1 + place.unsqueeze(1) ** 2 + place**2)
    gray = torch.zeros(12, 12, dtype=torch.float64)
    gray[0, 0] = 6.0  # 0.5 everywhere
    rng = generator(1)

    def source(number):
        noise = torch.randn(number, *shape, generator=rng, dtype=torch.float64)
        return (2 * process.from_modes(gray + power.sqrt() * noise) - 1).float()

    process.fit(source, rng)

    def best(state, step):
        level = step[0].item()
        ones = process.from_modes(torch.ones(1, *shape, dtype=torch.float64))
        left, before = (process.modes(process.dissipate(ones, k)) for k in (level, level - 1))
        share = before * power * left / (power * left.square() + sigma**2)
        mean = process.from_modes(gray + share * (process.modes(state.double()) - gray))
        return (mean - state) / process.scale[level]

    drawn = process.encode(sample(process, best, 500, generator(2)))
    found = (process.modes(drawn.double()) - gray).square().mean((0, 1)) / power
    high = place.unsqueeze(1) ** 2 + place**2
    for low, top in ((1, 8), (8, 40), (40, 300)):
        assert found[(high >= low) & (high < top)].mean().item() == pytest.approx(1, abs=0.15)
