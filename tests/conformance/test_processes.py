"""What every process must do, whatever it is. A new process joins by adding its cases."""

from copy import deepcopy
from functools import cache
from itertools import islice

import pytest
import torch

from kod_bench.diffusion import (
    PROCESSES,
    DiffusionProcess,
    TrainingBatch,
    make_process,
    process_parameters,
    run_forward,
    sample,
)
from kod_bench.diffusion.spherical_harmonics import sphere_grid

SMALL = {"pool_size": 12, "calibration_chains": 64}
KINDS = {
    "ddpm": ("ddpm", {}),
    "ddpm-analytic": ("ddpm", {"variance": "analytic"}),
    "ddpm-cosine": ("ddpm", {"schedule": "cosine", "variance": "forward"}),
    "ve": ("ve", {}),
    "edm": ("edm", {}),
    "heat": ("heat", {"prior_images": 64}),
    "kuramoto-global": ("kuramoto", {"coupling": "global", **SMALL}),
    "kuramoto-local": ("kuramoto", {"coupling": "local", **SMALL}),
    "kuramoto-none": (
        "kuramoto",
        {"coupling": "none", "variance": "analytic", **SMALL},
    ),
    "kuramoto-gaussian": (
        "kuramoto",
        {
            "coupling": "local",
            "neighbourhood": "gaussian",
            "neighbourhood_radius": 2,
            "total_time": 8.0,
            "coupling_ratio": 0.2,
            "reference_phase": 0.7,
            "ramp": "cosine",
            **SMALL,
        },
    ),
    "kuramoto-memory": ("kuramoto", {"coupling": "local", "memory": 4, **SMALL}),
    "kuramoto-published": (
        "kuramoto",
        {
            "coupling": "global",
            "target": "one-step",
            "loss_weight": "released",
            "variance": "forward",
            "final_noise": True,
            **SMALL,
        },
    ),
    "kuramoto-conditional": ("kuramoto", {"target": "conditional", **SMALL}),
    "sphere": ("sphere", {}),
    "sphere-ve-spectral": ("sphere", {"kernel": "ve", "objective": "spectral"}),
    "sphere-isotropic": ("sphere", {"covariance": "isotropic"}),
    "kuramoto-strides": (
        "kuramoto",
        {"coupling": "local", "chain_steps": 3, "loss_weight": "likelihood", **SMALL},
    ),
}
#: Shape and T: every T at one shape, every shape at many and at one T.
SIZES = [
    *(((1, 8, 8), steps) for steps in (1, 2, 25)),
    *(((3, 6, 9), steps) for steps in (1, 25)),
    ((1, 1, 1), 25),
]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def generator(seed=0, device="cpu"):
    return torch.Generator(device).manual_seed(seed)


def draw_images(shape, rng):
    """An image source: smooth columns with noise, somewhat like a print.

    Of maps of the sphere, which are twice as wide as high, what their resolution can hold.
    """

    def draw(number):
        noise = torch.rand(number, *shape, generator=rng, device=rng.device)
        wave = torch.linspace(0, 9, shape[2], device=rng.device).sin()
        images = (0.7 * wave + 0.6 * noise - 0.3).clamp(-1, 1)
        return band_limited(images) if shape[2] == 2 * shape[1] else images

    return draw


def band_limited(images):
    grid = sphere_grid(images.shape[2])
    project = (grid.synthesis @ grid.analysis).to(images)
    # Where waves add up they overshoot.
    return (images.flatten(2) @ project.mT).view(images.shape) / 3


def fitting(kind, shape):
    """The shape itself, or as wide as a map of the sphere."""
    on_sphere = KINDS[kind][0] == "sphere"
    return (shape[0], shape[1], 2 * shape[1]) if on_sphere else shape


def make(kind, shape=(1, 8, 8), steps=25):
    return deepcopy(fitted(kind, shape, steps))


@cache
def fitted(kind, shape, steps):
    shape = fitting(kind, shape)
    return fitted_to(draw_images(shape, generator(98)), kind, shape, steps)


def fitted_to(source, kind, shape, steps):
    name, parameters = KINDS[kind]
    process = make_process(name, shape=shape, steps=steps, **parameters)
    process.fit(source, generator(97))
    return process


@pytest.fixture(params=SIZES, ids=lambda size: "x".join(map(str, size[0])) + f"-T{size[1]}")
def size(request):
    return request.param


@pytest.fixture
def steps(size):
    return size[1]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def shape(kind, size):
    return fitting(kind, size[0])


@pytest.fixture
def process(kind, size):
    return make(kind, *size)


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def check_states(process, states, number, device="cpu"):
    assert states.shape == (number, *process.state_shape)
    assert states.dtype == torch.float32
    assert states.device.type == device
    assert torch.isfinite(states).all()
    if process.periodic:
        assert (states >= -torch.pi).all()
        assert (states < torch.pi).all()


def take(process, number, seed=0, batch_size=4, device="cpu"):
    rng = generator(seed, device)
    source = draw_images(process.shape, generator(99, device))
    return list(islice(process.training_batches(source, batch_size, rng), number))


def fields(batch):
    return (batch.state, batch.step, batch.target, batch.weight)


def guess(state, step):
    """Stands in for a network; any function of state and step."""
    return 0.5 * state.sin() * (1 + step.view(-1, 1, 1, 1).float()).rsqrt()


def test_every_process_has_a_case():
    assert {name for name, _ in KINDS.values()} == set(PROCESSES)


def test_it_says_what_it_is(process, shape, steps):
    assert isinstance(process, DiffusionProcess)
    assert (process.shape, process.steps) == (shape, steps)
    assert isinstance(process.periodic, bool)
    assert isinstance(process.structured, bool)
    assert process.kind in ("structured", "control", "euclidean")
    assert (process.kind == "euclidean") is not process.structured


def test_decode_inverts_encode(process, shape):
    images = draw_images(shape, generator())(5)
    kept = images.clone()
    state = process.encode(images)
    check_states(process, state, 5)
    assert torch.allclose(process.decode(state), images, atol=1e-6)
    state.fill_(0.1)
    assert torch.equal(images, kept)


def test_decode_stays_in_range(process):
    state = 10 * process.prior(50, generator())
    images = process.decode(state)
    assert images.abs().max() <= 1


def test_fitting_follows_its_generator(process):
    def drawn(seed):
        process.fit(draw_images(process.shape, generator(1)), generator(seed))
        return process.prior(3, generator()), take(process, 3)[-1].target

    first, other, same = drawn(0), drawn(1), drawn(0)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    if process.diagnostics() and type(process).fit is not DiffusionProcess.fit:
        assert not torch.equal(first[0], other[0])


def test_fitting_runs_where_the_images_are(process, device):
    process.fit(draw_images(process.shape, generator(1, device)), generator(2, device))
    check_states(process, process.prior(2, generator(0, device)), 2, device)


def test_training_batches_are_legal(process, steps, device):
    seen = set()
    for batch in take(process, 60, device=device):
        assert isinstance(batch, TrainingBatch)
        check_states(process, batch.state, 4, device)
        assert batch.step.shape == (4,)
        assert batch.step.dtype == torch.int64
        assert batch.target.shape == batch.state.shape
        assert batch.target.dtype == torch.float32
        assert torch.isfinite(batch.target).all()
        assert all(field.device.type == device for field in fields(batch))
        assert not any(field.requires_grad for field in fields(batch))
        loss = (batch.weight * (batch.target - guess(batch.state, batch.step)).square()).mean()
        assert torch.isfinite(loss)
        seen.update(batch.step.tolist())
    assert min(seen) >= 1
    assert max(seen) <= steps
    assert len(seen) > 0.8 * steps


def test_weight_depends_on_the_step_alone(process):
    known = {}
    for batch in take(process, 40):
        weights = batch.weight.expand_as(batch.state)
        for t, weight in zip(batch.step.tolist(), weights, strict=True):
            assert (weight == known.setdefault(t, weight.flatten()[0].item())).all()
            assert known[t] > 0


def test_guessing_zero_costs_about_one(kind):
    batches = take(make(kind, (1, 8, 8), 100), 60, batch_size=32)
    losses = [(batch.weight * batch.target.square()).mean() for batch in batches]
    # A weight that is not 1 at every t weighs the noise in this mean, too.
    accuracy = 0.03 if bool((batches[0].weight == 1).all()) else 0.1
    assert torch.stack(losses).mean().item() == pytest.approx(1, abs=accuracy)


def test_equal_generators_give_equal_batches(process):
    first, same, other = take(process, 15), take(process, 15), take(process, 15, seed=1)
    for one, two in zip(first, same, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(fields(one), fields(two), strict=True))
    assert not any(torch.equal(a.target, b.target) for a, b in zip(first, other, strict=True))


def test_two_iterators_do_not_meet(process):
    alone = take(process, 10)
    one, two = (
        process.training_batches(draw_images(process.shape, generator(99)), 4, generator(seed))
        for seed in (0, 1)
    )
    for batch in alone:
        assert torch.equal(next(one).state, batch.state)
        next(two)


def test_source_images_are_left_alone(process, shape):
    images = draw_images(shape, generator())(4)
    kept = images.clone()
    batches = process.training_batches(lambda number: images[:number], 4, generator())
    for batch in islice(batches, 30):
        batch.state.zero_()
    assert torch.equal(images, kept)


def test_steps_draw_states_and_leave_their_arguments_alone(process, steps, device):
    rng = generator(0, device)
    prior = process.prior(3, rng)
    for name in process.priors:
        check_states(process, process.prior(3, rng, name), 3, device)
    state, prediction = prior.clone(), guess(prior, torch.ones(3, device=device))
    kept = prediction.clone()
    for step in {1, steps}:
        check_states(process, process.forward_step(state, step, rng), 3, device)
        for sampler in (None, *process.samplers):
            for to in {0, step // 2, step - 1}:
                back = process.reverse_step(state, step, to, prediction, rng, sampler)
                check_states(process, back, 3, device)
                if to and sampler in process.second_order:
                    there, kept_back = prediction / 2, back.clone()
                    again = process.correct_step(state, step, to, prediction, back, there, sampler)
                    check_states(process, again, 3, device)
                    assert torch.equal(back, kept_back)
    assert torch.equal(state, prior)
    assert torch.equal(prediction, kept)


def test_half_precision_predictions_leave_the_state_in_full(process):
    state = process.prior(3, generator())
    back = process.reverse_step(state, 1, 0, torch.zeros_like(state).bfloat16(), generator())
    check_states(process, back, 3)


def test_draws_follow_their_generator(process, steps):
    def draws(seed):
        rng = generator(seed)
        state = process.prior(3, rng)
        forth = process.forward_step(state, steps, rng)
        prediction = guess(forth, torch.ones(3))
        return state, forth, process.reverse_step(forth, steps, steps - 1, prediction, rng)

    first, same, other = draws(0), draws(0), draws(1)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[1], other[1])
    if steps > 1:  # the last step may clamp both to the same image
        assert not torch.equal(first[2], other[2])


def test_global_randomness_is_not_touched(process):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    process.fit(draw_images(process.shape, generator(1)), generator(2))
    take(process, 3)
    sample(process, guess, 2, generator())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("number", [1, 3])
def test_sampling_gives_images(process, number, device):
    observed = []
    images = sample(
        process,
        guess,
        number,
        generator(0, device),
        on_step=lambda t, state: observed.append(t),
    )
    assert images.shape == (number, *process.shape)
    assert images.dtype == torch.float32
    assert images.device.type == device
    assert images.abs().max() <= 1
    assert observed == list(range(process.steps - 1, -1, -1))
    again = sample(process, guess, number, generator(0, device))
    assert torch.equal(images, again)


def test_fewer_evaluations_ask_the_network_less(process, steps):
    for sampler in process.samplers:
        for evaluations in {1, (steps + 1) // 2, steps}:
            asked, observed = [], []

            def watch(state, step, asked=asked):
                asked.append(step[0].item())
                return guess(state, step)

            images = sample(
                process,
                watch,
                2,
                generator(),
                sampler=sampler,
                evaluations=evaluations,
                on_step=lambda t, state, observed=observed: observed.append(t),
            )
            assert images.abs().max() <= 1
            assert asked == list(process.step_subset(evaluations, sampler))
            assert len(asked) == evaluations
            assert asked[0] == steps
            assert sorted(asked, reverse=True) == asked
            visited = sorted(set(asked), reverse=True)
            assert observed == [*visited[1:], 0]
            most = 2 if sampler in process.second_order else 1
            assert max(map(asked.count, visited)) <= most
            assert asked.count(steps) == 1


def test_all_evaluations_are_the_default(process, steps):
    default = sample(process, guess, 2, generator())
    explicit = sample(
        process, guess, 2, generator(), sampler=process.samplers[0], evaluations=steps
    )
    assert torch.equal(default, explicit)
    assert process.step_subset(steps) == tuple(range(steps, 0, -1))


def test_only_the_ancestral_sampler_draws_noise(process, steps):
    if steps == 1:
        return
    state = process.prior(2, generator())
    for sampler in process.samplers:
        one, other = (
            process.reverse_step(state, steps, 1, guess(state, torch.ones(2)), rng, sampler)
            for rng in (generator(1), generator(2))
        )
        assert torch.equal(one, other) is (sampler != "ancestral")


def test_samples_in_a_batch_are_independent(process, steps):
    # What one sample is must not depend on its neighbours: change them, and it stays.
    state = process.prior(4, generator())
    changed = state.clone()
    changed[1:] = process.prior(3, generator(1))
    said, changed_said = guess(state, torch.ones(4)), 3 * guess(changed, torch.ones(4))
    changed_said[0] = said[0]
    forth = (process.forward_step(x, steps, generator()) for x in (state, changed))
    moved = [tuple(forth)]
    for sampler in process.samplers:
        for t, to in {(steps, 0), (steps, steps // 2), ((steps + 1) // 2, steps // 3)}:
            moved.append(
                tuple(
                    process.reverse_step(x, t, to, prediction, generator(), sampler)
                    for x, prediction in ((state, said), (changed, changed_said))
                )
            )
    for one, other in moved:
        assert torch.allclose(one[0], other[0], atol=1e-6)


def moments(process, states):
    if process.periodic:
        waves = [wave(n * states).mean() for n in (1, 2) for wave in (torch.cos, torch.sin)]
        return torch.stack(waves)
    # The last tells a normal law from another of its variance.
    return torch.stack([states.mean(), states.std(), (2 * states).cos().mean()])


# A global mean field turns as a whole, and T = 100 remembers its image: so incoherent images, and
# many steps. The bias that is left is Euler's (0.01) and, for T = 300, the memory (0.005).
def test_forward_chains_end_in_the_prior(kind):
    shape, number, rng = fitting(kind, (1, 12, 12)), 64, generator()

    def draw(number):
        return 2 * torch.rand(number, *shape, generator=rng) - 1

    process, images = fitted_to(draw, kind, shape, 300), draw(number)
    start = moments(process, process.encode(images))
    state = run_forward(process, images, rng)
    for name in process.priors:
        prior = moments(process, process.prior(number, rng, name))
        assert (moments(process, state) - prior).abs().max() < 0.04
        assert (start - prior).abs().max() > 0.2


def test_misfits_are_refused(process, steps):
    state = process.prior(2, generator())
    wrong_image, wrong_state = (
        torch.zeros(2, shape[0] + 1, *shape[1:]) for shape in (process.shape, process.state_shape)
    )
    for step in (0, steps + 1, -1):
        with pytest.raises(ValueError, match=rf"step must lie in 1\.\.{steps}, got {step}"):
            process.forward_step(state, step, generator())
        with pytest.raises(ValueError, match="step must lie in"):
            process.reverse_step(state, step, 0, state, generator())
    for to in (-1, steps, steps + 1):
        with pytest.raises(ValueError, match=rf"from {steps} must lead to 0\.\.{steps - 1}, got"):
            process.reverse_step(state, steps, to, state, generator())
    with pytest.raises(ValueError, match="no sampler 'euler'; choose from ancestral, "):
        process.reverse_step(state, 1, 0, state, generator(), "euler")
    with pytest.raises(ValueError, match="no sampler 'euler'; choose from ancestral, "):
        sample(process, guess, 1, generator(), sampler="euler")
    with pytest.raises(ValueError, match=rf"evaluations must be at most T = {steps}, got"):
        sample(process, guess, 1, generator(), evaluations=steps + 1)
    with pytest.raises(ValueError, match="evaluations must be at least 1, got 0"):
        sample(process, guess, 1, generator(), evaluations=0)
    once = next(name for name in process.samplers if name not in process.second_order)
    with pytest.raises(ValueError, match=f"sampler '{once}' asks the network once per step"):
        process.correct_step(state, steps, 0, state, state, state, once)
    for sampler in process.second_order:
        with pytest.raises(ValueError, match="step must lie in"):
            process.correct_step(state, steps, 0, state, state, state, sampler)
    for refuse, wrong in ((process.encode, wrong_image), (process.decode, wrong_state)):
        with pytest.raises(ValueError, match=r"expected \(B, "):
            refuse(wrong)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        process.training_batches(draw_images(process.shape, generator()), 0, generator())
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        sample(process, guess, 0, generator())


def test_unknown_names_are_refused_with_what_is_known():
    with pytest.raises(ValueError, match="no process 'kuramotto'; choose from ddpm, "):
        make_process("kuramotto", shape=(1, 4, 4), steps=10)
    with pytest.raises(ValueError, match="ddpm has no coupling; it takes schedule, beta_range"):
        make_process("ddpm", shape=(1, 4, 4), steps=10, coupling="local")
    assert "phase_margin" in process_parameters("kuramoto")


def test_sampling_can_start_anywhere(process, steps):
    start = run_forward(process, draw_images(process.shape, generator())(3), generator(1))
    kept = start.clone()
    first, same = (sample(process, guess, 3, generator(2), start=start) for _ in range(2))
    assert torch.equal(first, same)
    assert torch.equal(start, kept)
    with pytest.raises(ValueError, match="count is 2 but start holds 3 states"):
        sample(process, guess, 2, generator(), start=start)


def test_unknown_priors_are_refused(process):
    with pytest.raises(ValueError, match=f"no prior 'uniform'; choose from {process.priors[0]}"):
        process.prior(2, generator(), "uniform")


def test_diagnostics_are_those_of_the_prior_asked_for(process):
    assert process.diagnostics() == process.diagnostics(process.priors[0])
    for prior in process.priors:
        assert all(isinstance(value, float) for value in process.diagnostics(prior).values())
