"""DPM-Solver++(2M) against diffusers' scheduler, step by step, and its order."""

import math
from itertools import pairwise

import pytest
import torch

from kod_bench.diffusion import DDPM, EDM, FlowMatching, ScoreSDE, VarianceExploding, sample
from kod_bench.diffusion.euclidean import EuclideanDiffusion

MEAN, STD = 0.1, 0.15  # of independent pixels


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def image_at(process, state, step):
    """The best x_0 for independent pixels N(MEAN, STD^2)."""
    signal, noise = process.signal[step], process.noise_std[step]
    share = signal * STD**2 / ((signal * STD) ** 2 + noise**2)
    return MEAN + share * (state - signal * MEAN)


def answers(process):
    """A network that knows it, in the process's own terms."""

    def predict(state, step):
        t = int(step[0])
        image = image_at(process, state.double(), t)
        noise = (state.double() - process.signal[t] * image) / process.noise_std[t]
        return process.target(image, noise, step)

    return predict


@pytest.mark.parametrize(
    "make",
    [
        lambda: DDPM(shape=(1, 4, 4), steps=1000),
        lambda: ScoreSDE(shape=(1, 4, 4), steps=1000),
        lambda: FlowMatching(shape=(1, 4, 4), steps=1000, data_std=0.4),
    ],
    ids=["ddpm", "sgm", "flow-matching"],
)
@pytest.mark.parametrize("evaluations", [5, 10, 25])
def test_steps_are_those_of_diffusers(make, evaluations):
    diffusers = pytest.importorskip("diffusers")
    process = make()
    steps = process.step_subset(evaluations, "dpm-solver++")
    start = process.prior(3, generator(1)).double()
    ours = {}
    sample(
        process,
        answers(process),
        3,
        generator(),
        sampler="dpm-solver++",
        evaluations=evaluations,
        start=start,
        on_step=ours.__setitem__,
    )
    # The scheduler takes sigmas as they are only where they are a flow's; elsewhere it is handed
    # ours at its own steps. Its x_0 is not clipped; ours never leaves [-1, 1] here.
    theirs = diffusers.DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        algorithm_type="dpmsolver++",
        solver_order=2,
        prediction_type="sample",
        final_sigmas_type="zero",
    )
    theirs.set_timesteps(evaluations)
    theirs.timesteps = torch.tensor(steps)
    theirs.sigmas = torch.tensor([process._sigma[t] for t in (*steps, 0)], dtype=torch.float64)
    frames = [process._signal[t] for t in (*steps, 0)]

    def alpha_sigma(sigma):
        place = int((theirs.sigmas - sigma).abs().nan_to_num(0.0).argmin())
        return (
            torch.tensor(frames[place], dtype=torch.float64),
            torch.tensor(process._std[(*steps, 0)[place]], dtype=torch.float64),
        )

    theirs._sigma_to_alpha_sigma_t = alpha_sigma
    state = start
    for index, (step, to) in enumerate(pairwise((*steps, 0))):
        theirs._step_index = index
        state = theirs.step(image_at(process, state, step), step, state).prev_sample
        assert torch.allclose(state, ours[to], atol=1e-6), to


class Line(EuclideanDiffusion):
    """Levels evenly spaced in log(a / s), where the method's error is smooth."""

    def __init__(self, steps):
        sigma = torch.linspace(math.log(0.05), math.log(20), steps, dtype=torch.float64).exp()
        signal = (1 + sigma.square()).rsqrt()
        super().__init__((1, 4, 4), signal, signal * sigma)


def test_the_error_falls_with_the_second_order():
    def error(jumps):
        process = Line(jumps + 1)
        signal, sigma = process.signal.values, process.noise_std.values / process.signal.values
        noise = torch.randn(8, 1, 4, 4, generator=generator(3), dtype=torch.float64)
        spread = (STD**2 + sigma.square()).sqrt()
        reached = {}
        sample(
            process,
            answers(process),
            8,
            generator(),
            sampler="dpm-solver++",
            start=signal[-1] * (MEAN + spread[-1] * noise / 4),
            on_step=reached.__setitem__,
        )
        expected = signal[0] * (MEAN + spread[0] * noise / 4)
        return (reached[1] - expected).abs().max().item()

    errors = [error(jumps) for jumps in (64, 128, 256)]
    for before, after in pairwise(errors):
        assert math.log2(before / after) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DDPM(shape=(1, 4, 4), steps=1000),
        lambda: ScoreSDE(shape=(1, 4, 4), steps=1000),
        lambda: FlowMatching(shape=(1, 4, 4), steps=1000, data_std=0.4),
        lambda: EDM(shape=(1, 4, 4), steps=1000, data_std=0.5),
        lambda: VarianceExploding(shape=(1, 4, 4), steps=1000),
    ],
    ids=["ddpm", "sgm", "flow-matching", "edm", "ve"],
)
def test_few_evaluations_give_the_data_where_those_of_first_order_do_not(make):
    process = make()

    def spread(sampler):
        drawn = sample(
            process, answers(process), 2000, generator(1), sampler=sampler, evaluations=20
        )
        assert drawn.mean().item() == pytest.approx(MEAN, abs=0.03)
        return abs(drawn.std().item() / STD - 1)

    first_order = "euler" if isinstance(process, FlowMatching) else "ddim"
    assert spread("dpm-solver++") < 0.1
    assert spread("dpm-solver++") < 0.5 * spread(first_order)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 40, 99, 100])
def test_steps_are_even_in_the_signal_to_noise_ratio(count):
    process = DDPM(shape=(1, 4, 4), steps=100)
    steps = process.step_subset(count, "dpm-solver++")
    assert len(set(steps)) == count
    assert steps[0] == 100
    assert list(steps) == sorted(steps, reverse=True)
    levels = torch.tensor(process._log_snr[1:]).clamp_min(-math.log(80))
    if count == 10:
        wanted = torch.linspace(levels[-1].item(), levels[0].item(), count)
        for step, level in zip(steps, wanted, strict=True):
            assert abs(levels[step - 1] - level) == (levels - level).abs().min()
