"""The score model of an SDE: its kernels, its times, its samplers by the paper's formulas."""

import math
from itertools import islice

import pytest
import torch
from scipy import integrate, stats

from kod_bench.diffusion import ScoreSDE, sample

KERNELS = ("vp", "ve")
MEAN, STD = 0.1, 0.15  # of independent pixels


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(steps=40, **parameters):
    return ScoreSDE(shape=(1, 4, 4), steps=steps, **parameters)


def time_of(step, steps, first):
    return first + (1 - first) * (step - 1) / (steps - 1)


def written_kernel(kernel, time):
    """m and s of y, by quadrature of the SDE's own rates."""
    if kernel == "vp":
        spent = integrate.quad(lambda t: 0.1 + 19.9 * t, 0, time)[0]
        return math.exp(-spent / 2), math.sqrt(1 - math.exp(-spent))
    return 1.0, 0.02 * 5000**time


def frame_of(kernel, std):
    return 1.0 if kernel == "vp" else 1 / math.sqrt(1 + std**2)


@pytest.mark.parametrize(("kernel", "first"), [("vp", 1e-3), ("ve", 1e-5)])
def test_steps_are_at_times_of_the_papers_kernels(kernel, first):
    process = make(kernel=kernel)
    for step in (1, 2, 20, 40):
        kept, std = written_kernel(kernel, time_of(step, 40, first))
        frame = frame_of(kernel, std)
        assert process.signal[step] == pytest.approx(frame * kept, rel=1e-6)
        assert process.noise_std[step] == pytest.approx(frame * std, rel=1e-6)
    assert make(1, kernel=kernel).noise_std[1] == pytest.approx(process.noise_std[40])


@pytest.mark.parametrize("kernel", KERNELS)
def test_training_is_in_continuous_time(kernel):
    process = make(kernel=kernel)
    image = torch.rand(1, 4, 4, generator=generator(1), dtype=torch.float64) * 2 - 1
    batches = process.training_batches(lambda n: image.expand(n, 1, 4, 4), 64, generator())
    first = 1e-3 if kernel == "vp" else 1e-5
    places = []
    for batch in islice(batches, 20):
        for state, step, target in zip(batch.state, batch.step, batch.target, strict=True):
            kept, std = written_kernel(kernel, time_of(step.item(), 40, first))
            expected = frame_of(kernel, std) * (kept * image + std * target)
            assert torch.allclose(state, expected, atol=1e-6)
        places.append((batch.step - 1) / 39)
    found = torch.cat(places)
    assert stats.kstest(found.numpy(), stats.uniform.cdf).pvalue > 0.01
    between = (found * 39 - (found * 39).round()).abs()
    assert (between > 0.1).float().mean() > 0.7  # not on the steps


def law_of_a_step(process, sampler, step, to, place, noise):
    """Mean and spread of y_u by drawing, from y_t = place and eps = noise everywhere."""
    kernel = process.kernel
    here, there = (
        frame_of(kernel, written_kernel(kernel, process._time[t])[1]) for t in (step, to)
    )
    state = torch.full((4000, 1, 4, 4), here * place, dtype=torch.float64)
    said = torch.full_like(state, noise)
    back = process.reverse_step(state, step, to, said, generator(), sampler)
    return (back / there).flatten()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("to", [19, 12])
def test_euler_maruyama_is_the_reverse_sde(kernel, to):
    process, step, place, noise = make(kernel=kernel), 20, 0.3, 0.4
    now, then = process._time[step], process._time[to]
    _, std = written_kernel(kernel, now)
    rate, squared = -(0.1 + 19.9 * now) / 2, 0.1 + 19.9 * now
    if kernel == "ve":
        rate, squared = 0.0, 2 * std**2 * math.log(5000)
    # Equation 6, backwards in time.
    mean = place - (now - then) * (rate * place - squared * (-noise / std))
    spread = math.sqrt(squared * (now - then))
    found = law_of_a_step(process, "euler-maruyama", step, to, place, noise)
    assert stats.kstest(found.numpy(), stats.norm(mean, spread).cdf).pvalue > 0.01


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("to", [19, 12])
@pytest.mark.parametrize("sampler", ["reverse-diffusion", "predictor-corrector"])
def test_reverse_diffusion_discretises_as_the_forward_chain(kernel, to, sampler):
    process, step, place, noise = make(kernel=kernel), 20, 0.3, 0.4
    (kept_now, now), (kept_then, then) = (
        written_kernel(kernel, process._time[t]) for t in (step, to)
    )
    if kernel == "vp":  # eq. 46 with x_i = sqrt(1 - beta) x_{i-1} + sqrt(beta) z
        beta = 1 - (kept_now / kept_then) ** 2
        mean = (2 - math.sqrt(1 - beta)) * place + beta * (-noise / now)
        spread = math.sqrt(beta)
    else:
        mean = place + (now**2 - then**2) * (-noise / now)
        spread = math.sqrt(now**2 - then**2)
    found = law_of_a_step(process, sampler, step, to, place, noise)
    assert stats.kstest(found.numpy(), stats.norm(mean, spread).cdf).pvalue > 0.01
    flow = law_of_a_step(process, "probability-flow", step, to, place, noise)
    drift = (2 - math.sqrt(1 - beta)) * place if kernel == "vp" else place
    halfway = drift + (mean - drift) / 2
    assert torch.allclose(flow, torch.full_like(flow, halfway), rtol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_corrector_step_is_langevin_dynamics_at_its_signal_to_noise_ratio(kernel):
    process, step = make(kernel=kernel, corrector_snr=0.1), 20
    kept, std = written_kernel(kernel, process._time[step])
    frame = frame_of(kernel, std)
    before, _ = written_kernel(kernel, process._time[step - 1])
    place = torch.randn(5, 1, 4, 4, generator=generator(1), dtype=torch.float64)
    said = torch.randn(5, 1, 4, 4, generator=generator(2), dtype=torch.float64)
    moved = process.correct_step(
        0 * place, 25, step, said, frame * place, said, "predictor-corrector", generator(3)
    )
    noise = torch.randn(5, 1, 4, 4, generator=generator(3), dtype=torch.float64)
    for i in range(5):
        score = -said[i] / std
        alpha = (kept / before) ** 2
        pace = 2 * alpha * (0.1 * noise[i].norm() / score.norm()) ** 2
        expected = place[i] + pace * score + math.sqrt(2 * pace) * noise[i]
        assert torch.allclose(moved[i] / frame, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_untrained_network_which_answers_nothing_leaves_the_corrector_finite(kernel):
    drawn = sample(
        make(kernel=kernel),
        lambda state, step: torch.zeros_like(state),
        3,
        generator(),
        sampler="predictor-corrector",
    )
    assert torch.isfinite(drawn).all()


def exact(process):
    """The best prediction for independent pixels N(MEAN, STD^2)."""

    def predict(state, step):
        signal, noise = (
            table.values[step - 1].view(-1, 1, 1, 1)
            for table in (process.signal, process.noise_std)
        )
        total = (signal * STD).square() + noise.square()
        return (noise * (state.double() - signal * MEAN) / total).to(state.dtype)

    return predict


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("sampler", ScoreSDE.samplers)
def test_the_exact_score_recovers_a_normal_law(kernel, sampler):
    process = make(steps=600, kernel=kernel, corrector_snr=0.05)
    drawn = sample(process, exact(process), 1000, generator(1), sampler=sampler).double()
    assert drawn.mean().item() == pytest.approx(MEAN, abs=0.01)
    # Langevin steps of any length widen a law a little.
    accuracy = 0.08 if sampler == "predictor-corrector" else 0.05
    assert drawn.std().item() == pytest.approx(STD, rel=accuracy)


def test_the_corrector_mends_what_the_predictor_left():
    # Far too wide for its level: Langevin dynamics alone brings it to the law there.
    # (Of many pixels: of a few, the length of a score now and then is next to nothing.)
    process, step = ScoreSDE(shape=(1, 16, 16), steps=100, corrector_snr=0.2), 60
    signal, noise = process.signal[step], process.noise_std[step]
    std = math.sqrt((signal * STD) ** 2 + noise**2)
    predict, rng = exact(process), generator(1)
    state = 3 * torch.randn(30, 1, 16, 16, generator=rng)
    for _ in range(200):
        said = predict(state, torch.full((30,), step))
        state = process.step_in_place(state, step, said, rng)
    assert state.std().item() == pytest.approx(std, rel=0.05)


def test_evaluations_count_every_question():
    process, asked = make(steps=100), []

    def watch(state, step):
        asked.append(int(step[0]))
        return torch.zeros_like(state)

    sample(process, watch, 1, generator(), sampler="predictor-corrector", evaluations=9)
    # Five predictions; four corrections, each where a prediction has led.
    assert len(asked) == 9
    assert [asked.count(t) for t in dict.fromkeys(asked)] == [1, 2, 2, 2, 2]


def test_images_are_clamped_where_one_says_so():
    state = torch.full((1, 1, 4, 4), 3.0)
    for clamped, sampler in ((False, "ddim"), (True, "ddim"), (True, "reverse-diffusion")):
        process = make(clamped=clamped)
        moved = process.reverse_step(state, 2, 1, 0 * state, generator(), sampler)
        x_0 = 1.0 if clamped else (state / process.signal[2])[0, 0, 0, 0].item()
        noise = (state - process.signal[2] * x_0) / process.noise_std[2]
        plain = make().reverse_step(state, 2, 1, noise, generator(), sampler)
        assert torch.allclose(moved, plain, rtol=1e-4)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel": "sub-vp"}, "kernel must be one of"),
        ({"kernel": "ve", "beta_range": (0.1, 20.0)}, "leave one of them out"),
        ({"sigma_range": (0.1, 20.0)}, "leave one of them out"),
        ({"beta_range": (20.0, 0.1)}, r"beta_range must lie in \(20"),
        ({"beta_range": (0.1, 5000.0)}, "leaves no image"),
        ({"kernel": "ve", "sigma_range": (0.0, 1.0)}, r"sigma_range must lie in \(0"),
        ({"corrector_snr": 0.0}, r"corrector_snr must lie in \(0"),
    ],
)
def test_impossible_values_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        make(**parameters)
