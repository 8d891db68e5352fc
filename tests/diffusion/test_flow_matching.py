"""Flow matching: its paths, its times, and the order of its samplers."""

import math
from itertools import islice, pairwise

import pytest
import torch
from scipy import stats

from kod_bench.diffusion import FlowMatching, sample

MEAN, STD = 0.1, 0.15  # of independent pixels


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(steps=40, **parameters):
    return FlowMatching(shape=(1, 4, 4), steps=steps, **{"data_std": 0.4, **parameters})


def test_training_states_lie_on_straight_lines_and_targets_are_their_slopes():
    process = make()
    image = torch.rand(1, 4, 4, generator=generator(1), dtype=torch.float64) * 2 - 1
    batches = process.training_batches(lambda n: image.expand(n, 1, 4, 4), 64, generator())
    for batch in islice(batches, 10):
        tau = (batch.step.double() / 40).view(-1, 1, 1, 1)
        slope = batch.target * math.sqrt(1 + 0.4**2)
        assert torch.allclose(batch.state, image + tau * slope, atol=1e-6)
        assert (batch.weight == 1).all()


def test_times_are_continuous_and_of_their_law():
    even = make().draw_steps(20_000, generator())
    assert stats.kstest((even - 1).numpy() / 39, stats.uniform.cdf).pvalue > 0.01
    process = make(100_000, times="logit-normal", logit_mean=-0.5, logit_std=1.2)
    time = process.draw_steps(20_000, generator()) / 100_000
    logit = (time / (1 - time)).log()
    assert stats.kstest(logit.numpy(), stats.norm(-0.5, 1.2).cdf).pvalue > 0.01
    low = make(10, times="logit-normal", logit_mean=-9.0).draw_steps(100, generator())
    assert (low == 1).all()  # never below what is asked for in sampling


def test_the_forward_chain_has_the_law_of_the_paths_and_forgets_the_image():
    process, rng = make(10), generator()
    state = torch.full((4000, 1, 4, 4), 0.6)
    for t in range(1, 11):
        state = process.forward_step(state, t, rng)
        law = stats.norm(0.6 * (1 - t / 10), t / 10)
        if t in (1, 5, 10):
            assert stats.kstest(state.flatten().numpy(), law.cdf).pvalue > 0.01


def exact(process):
    """The best velocity for independent pixels N(MEAN, STD^2), in the network's units."""

    def predict(state, step):
        tau = (step / process.steps).double().view(-1, 1, 1, 1)
        total = ((1 - tau) * STD).square() + tau.square()
        centred = state.double() - (1 - tau) * MEAN
        noise = tau / total * centred
        image = MEAN + (1 - tau) * STD**2 / total * centred
        return ((noise - image) / process.scale).to(state.dtype)

    return predict


def error(sampler, evaluations, steps=4096):
    """Largest error of images at the end of the flow, which is linear and known."""
    process = make(steps)
    start = torch.randn(8, 1, 4, 4, generator=generator(3), dtype=torch.float64)
    drawn = sample(
        process,
        exact(process),
        8,
        generator(),
        sampler=sampler,
        evaluations=evaluations,
        start=start,
    )
    return (drawn - (MEAN + STD * start)).abs().max().item()


@pytest.mark.parametrize(
    ("sampler", "counts", "order"),
    [
        ("euler", (32, 64, 128), 1),
        ("midpoint", (64, 128, 256), 2),
        ("heun", (63, 127, 255), 2),
    ],
)
def test_the_error_falls_with_the_order_of_the_sampler(sampler, counts, order):
    errors = [error(sampler, count) for count in counts]
    for before, after in pairwise(errors):
        # On this flow midpoint is a little better than its order.
        assert order - 0.3 < math.log2(before / after) < order + (1.1 if order == 2 else 0.3)


def test_a_midpoint_that_is_not_halfway_is_of_second_order_too():
    # Of T = 1.5 n no whole number is halfway.
    errors = [error("midpoint", count, steps=3 * count // 2) for count in (64, 128, 256)]
    for before, after in pairwise(errors):
        assert math.log2(before / after) > 1.7
    odd = [error("midpoint", count) for count in (65, 129)]  # the last one is euler's
    assert math.log2(odd[0] / odd[1]) > 1.7


def test_midpoint_by_hand():
    process = make(20)
    start = torch.randn(2, 1, 4, 4, generator=generator(1), dtype=torch.float64)
    predict, ways = exact(process), {}
    sample(
        process,
        predict,
        2,
        generator(),
        sampler="midpoint",
        evaluations=4,
        start=start,
        on_step=ways.__setitem__,
    )

    def velocity(state, step):
        return process.scale * predict(state, torch.full((2,), step))

    assert list(ways) == [15, 10, 5, 0]
    half = start - 0.25 * velocity(start, 20)
    assert torch.allclose(ways[15], half)
    whole = start - 0.5 * velocity(half, 15)
    assert torch.allclose(ways[10], whole)
    again = whole - 0.25 * velocity(whole, 10)
    assert torch.allclose(ways[0], whole - 0.5 * velocity(again, 5))


@pytest.mark.parametrize("sampler", FlowMatching.samplers)
def test_the_exact_velocity_recovers_a_normal_law(sampler):
    process = make(1000)
    drawn = sample(process, exact(process), 1000, generator(1), sampler=sampler, evaluations=200)
    assert drawn.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert drawn.std().item() == pytest.approx(STD, rel=0.03)


def test_the_target_has_variance_one_for_any_images():
    def source(number):
        return 0.7 * (torch.rand(number, 1, 4, 4, generator=rng) * 2 - 1) + 0.2

    rng, process = generator(1), make(data_std=None)
    process.fit(source, generator())
    assert process.scale == pytest.approx(math.sqrt(1 + 0.49 / 3 + 0.04), rel=0.01)
    batch = next(process.training_batches(source, 4000, generator(2)))
    assert batch.target.square().mean().item() == pytest.approx(1, abs=0.02)
    given = make(data_std=0.3)
    given.fit(source, generator())
    assert given.data_std == 0.3


def test_images_are_clamped_where_one_says_so():
    state, said = torch.full((1, 1, 4, 4), 0.9), torch.full((1, 1, 4, 4), -2.0)
    plain, clamped = (
        make(clamped=each).reverse_step(state, 20, 10, said, generator()) for each in (False, True)
    )
    assert torch.allclose(plain, state + 0.25 * 2 * math.sqrt(1.16))
    # The image is 1, so the velocity is (x - 1) / tau.
    assert torch.allclose(clamped, state - 0.25 * (0.9 - 1) / 0.5)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"times": "cosine"}, "times must be one of"),
        ({"logit_std": 0.0}, r"logit_std must lie in \(0"),
        ({"logit_mean": math.inf}, "logit_mean must lie in"),
        ({"data_std": 0.0}, r"data_std must lie in \(0"),
    ],
)
def test_impossible_values_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        make(**parameters)
