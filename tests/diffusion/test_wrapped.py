"""The wrapped process, against closed forms and against uncoupled Kuramoto chains."""

import math
from itertools import islice

import pytest
import torch
from torch import nn

from kod_bench.diffusion import ImageSource, KuramotoDiffusion, WrappedDiffusion
from kod_bench.diffusion.wrapped import score_rms


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_peaks(rng: torch.Generator) -> ImageSource:
    """Two phases, each of two peaks."""

    def draw(count: int) -> torch.Tensor:
        first = torch.rand(count, 1, 1, 2, generator=rng) < 0.6
        noise = 0.1 * torch.randn(count, 1, 1, 2, generator=rng)
        return torch.where(first, -0.5, 0.4) + noise

    return draw


def test_fisher_information_is_that_of_the_literature() -> None:
    sigma = torch.tensor([0.05, 0.29, 0.31, 1.0, 2.0, 4.0], dtype=torch.float64)
    expected = [400, 1 / 0.29**2, 1 / 0.31**2, 0.949, 0.0373, 2 * math.exp(-16)]
    for found, known in zip(score_rms(sigma).square().tolist(), expected, strict=True):
        assert found == pytest.approx(known, rel=3e-3)


def test_levels_are_spread_as_asked() -> None:
    process = WrappedDiffusion(shape=(1, 2, 2), steps=5, sigma_min=0.1, sigma_max=2.1)
    assert torch.allclose(process.sigma.values, torch.tensor([0.1, 0.6, 1.1, 1.6, 2.1]).double())
    denser = WrappedDiffusion(shape=(1, 2, 2), steps=5, sigma_min=0.1, sigma_max=2.1, rho=5.0)
    assert (denser.sigma.values[1:-1] < process.sigma.values[1:-1]).all()
    for wrong in ({"sigma_max": 4.1}, {"sigma_min": 0.0}, {"sigma_min": 3.5}, {"rho": 0.0}):
        with pytest.raises(ValueError, match="must lie in"):
            WrappedDiffusion(shape=(1, 2, 2), steps=5, **wrong)  # type: ignore[arg-type]


def test_the_weight_noise_leaves_little_to_flat_levels() -> None:
    def weights(kind: str) -> list[float]:
        source = two_peaks(generator(1))
        process = WrappedDiffusion(shape=(1, 1, 2), steps=40, level_weight=kind)  # type: ignore[arg-type]
        found: dict[int, float] = {}
        for batch in islice(process.training_batches(source, 64, generator()), 30):
            found |= dict(zip(batch.step.tolist(), batch.weight.flatten().tolist(), strict=True))
        return [found[t] for t in range(1, 41)]

    unit, noise, likelihood = (weights(kind) for kind in ("unit", "noise", "likelihood"))
    assert set(unit) == {1.0}
    assert sum(noise) / 40 == pytest.approx(1, rel=1e-5)
    assert noise[0] > 20 * noise[-1]
    sigma = WrappedDiffusion(shape=(1, 2, 2), steps=40).sigma.values
    rms = score_rms(sigma)
    ratios = torch.tensor(noise).double() / (sigma * rms).square()
    assert torch.allclose(ratios, ratios.mean(), rtol=1e-4)
    added = sigma.square().diff(prepend=torch.zeros(1).double())
    ratios = torch.tensor(likelihood).double() / (added * rms.square())
    assert torch.allclose(ratios, ratios.mean(), rtol=1e-4)


STEPS, ADDED = 25, 0.2


def same_processes() -> tuple[WrappedDiffusion, KuramotoDiffusion]:
    """Equal laws at every t: the variance grows by 0.2 a step in both."""
    wrapped = WrappedDiffusion(
        shape=(1, 1, 2),
        steps=STEPS,
        sigma_min=math.sqrt(ADDED),
        sigma_max=math.sqrt(ADDED * STEPS),
        rho=0.5,
        reading="angle",
    )
    kuramoto = KuramotoDiffusion(
        shape=(1, 1, 2),
        steps=STEPS,
        coupling="none",
        reference_strength=0.0,
        ramp="constant",
        noise_range=(ADDED, ADDED),
        pool_size=8000,
        chain_steps=STEPS,
        reading="angle",
    )
    steps = torch.arange(1, STEPS + 1).double()
    assert torch.allclose(wrapped.sigma.values.square(), ADDED * steps)
    assert torch.allclose(kuramoto.noise_std.values.square().cumsum(0), ADDED * steps)
    return wrapped, kuramoto


def waves(phases: torch.Tensor) -> torch.Tensor:
    """(N, 6) from (N,) phases."""
    return torch.stack([f(n * phases) for n in (1, 2, 3) for f in (torch.cos, torch.sin)], 1)


def test_it_learns_the_score_that_uncoupled_kuramoto_learns() -> None:
    """The same conditional mean of targets, and the same least squares."""
    fits, means, errors = [], [], []
    chosen = (1, 4, 10, 20)
    for process in same_processes():
        products: dict[int, list[torch.Tensor]] = {t: [] for t in chosen}
        seen: dict[int, list[torch.Tensor]] = {t: [] for t in chosen}
        for batch in islice(
            process.training_batches(two_peaks(generator(1)), 4000, generator(2)), 60
        ):
            minus_score = batch.target / process.scale.at(batch.step, batch.target)
            for t in chosen:
                here = batch.step == t
                phases, scores = (x[here].double().flatten() for x in (batch.state, minus_score))
                products[t].append(waves(phases) * scores.unsqueeze(1))
                seen[t].append(waves(phases))
        joined = {t: torch.cat(found) for t, found in products.items()}
        means.append(torch.stack([joined[t].mean(0) for t in chosen]))
        errors.append(torch.stack([joined[t].std(0) / len(joined[t]) ** 0.5 for t in chosen]))
        # Least squares on waves, which is what a small network without a bias comes to.
        gram = {t: torch.cat(seen[t]) for t in chosen}
        fits.append(
            torch.stack(
                [torch.linalg.solve(gram[t].mT @ gram[t], joined[t].sum(0)) for t in chosen]
            )
        )
    sigmas = (means[0] - means[1]) / torch.hypot(*errors)
    assert sigmas.abs().max() < 4.5
    # Where the score is far from zero, so that agreement means something.
    assert (means[0] / errors[0]).abs().amax(1).min() > 8
    for index, t in enumerate(chosen):
        # Over the states there are: elsewhere nothing holds the fits.
        difference, ours = (
            (gram[t] @ weights).square().mean().sqrt()
            for weights in (fits[0][index] - fits[1][index], fits[0][index])
        )
        # Monte Carlo's error; the score itself is 0.06 (t = 20) to 1.7 per radian.
        assert difference < 0.012 + 0.07 * ours, t


def known_score(phases: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Of each of the `two_peaks`, wrapped normal laws that noise has widened."""
    theta = phases.double().detach().requires_grad_()
    spread = ((0.1 * math.pi) ** 2 + variance).sqrt()
    turns = 2 * math.pi * torch.arange(-4, 5).double()
    logs = [
        math.log(share)
        - ((theta.unsqueeze(-1) - math.pi * peak + turns) / spread.unsqueeze(-1)).square() / 2
        for share, peak in ((0.6, -0.5), (0.4, 0.4))
    ]
    torch.cat(logs, -1).logsumexp(-1).sum().backward()
    assert theta.grad is not None
    return theta.grad


class SmallNetwork(nn.Module):
    """A perceptron on waves of a phase and of its time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(10, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)
        )

    def forward(self, state: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """Predictions of the shape of the state."""
        time = (step / STEPS * math.pi).view(-1, 1, 1, 1).expand_as(state)
        found = [f(n * state) for n in (1, 2, 3) for f in (torch.cos, torch.sin)]
        found += [f(n * time) for n in (1, 2) for f in (torch.cos, torch.sin)]
        predicted: torch.Tensor = self.layers(torch.stack(found, -1)).squeeze(-1)
        return predicted


def test_trained_networks_have_one_score_and_it_is_the_known_one() -> None:
    """Adam on batches of either process, from the same weights."""
    phases = math.pi * two_peaks(generator(5))(2000)
    states = {
        t: phases + math.sqrt(ADDED * t) * torch.randn(phases.shape, generator=generator(t))
        for t in (2, 6, 12)
    }
    scores = []
    for process in same_processes():
        network = SmallNetwork()
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 600)
        source = two_peaks(generator(1))
        for batch in islice(process.training_batches(source, 1000, generator(2)), 600):
            error = network(batch.state, batch.step) - batch.target
            optimizer.zero_grad()
            (batch.weight * error.square()).mean().backward()
            optimizer.step()
            falling.step()
        of = []
        with torch.no_grad():
            for t, state in states.items():
                steps = torch.full((len(state),), t)
                predicted = network(torch.remainder(state + math.pi, 2 * math.pi) - math.pi, steps)
                of.append(-predicted / process.scale.at(steps, predicted))
        scores.append(of)
    for place, (t, state) in enumerate(states.items()):
        known = known_score(state, torch.full(state.shape, ADDED * t).double())
        size = known.square().mean().sqrt()
        closed, chains = (found[place].double() for found in scores)
        assert (closed - chains).square().mean().sqrt() < 0.12 * size
        for found in (closed, chains):
            assert (found - known).square().mean().sqrt() < 0.22 * size


def test_the_closed_target_is_no_noisier_than_the_chains() -> None:
    """What is random in it is the start alone; chains add their turns."""
    spread = []
    for process in same_processes():
        found = [
            (batch.target / process.scale.at(batch.step, batch.target))[batch.step > 10]
            for batch in islice(
                process.training_batches(two_peaks(generator(1)), 2000, generator(2)), 20
            )
        ]
        spread.append(float(torch.cat(found).square().mean().sqrt()))
    assert spread[0] < 0.8 * spread[1]
