import math
from dataclasses import replace

import pytest
import torch

from kod_bench.diffusion import KuramotoDiffusion
from kod_bench.diffusion.circle import wrapped_normal_log_density, wrapped_normal_score
from kod_bench.diffusion.path_weight import next_weight, path_gains
from kod_bench.diffusion.phase_flow import LocalMeanField


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def run(process, state, steps, rng):
    """State and weight of chains after some steps."""
    chains = torch.stack([state, torch.zeros_like(state)], dim=1)
    for t in range(1, steps + 1):
        chains = process.advance_chains(chains, torch.full((len(state),), t), rng)
    return chains.unbind(1)


class TestGains:
    def test_without_a_map_it_is_the_score_of_the_sum_of_the_noise(self):
        variance = torch.tensor([0.3, 0.1, 0.7, 0.2], dtype=torch.float64)
        gains, rms = path_gains(variance, torch.zeros(4))
        rng, weight, total = generator(), torch.zeros(5, 2).double(), torch.zeros(5, 2).double()
        for t in range(4):
            noise = torch.randn(5, 2, generator=rng, dtype=torch.float64)
            std = math.sqrt(variance[t])
            weight = next_weight(weight, noise, torch.zeros_like(noise), gains[t].item(), std)
            total += std * noise
            assert torch.allclose(weight, total / variance[: t + 1].sum(), rtol=1e-13)
        assert torch.allclose(rms, variance.cumsum(0).rsqrt())

    def test_memory_runs_from_one_step_to_all(self):
        variance, slope = torch.linspace(1e-4, 0.1, 50), torch.full((50,), 1e-3)
        one, _ = path_gains(variance, slope, 1)
        assert (one == 0).all()
        rms = [path_gains(variance, slope, memory)[1][-1] for memory in (1, 4, 16, 50, None)]
        assert rms == sorted(rms, reverse=True)
        assert rms[0] == pytest.approx(1 / math.sqrt(0.1))
        free, longest = (path_gains(variance, slope, memory)[0] for memory in (None, 10**9))
        assert torch.equal(free, longest)

    def test_steep_maps_are_not_carried_along(self):
        # However steep, the best gain is never worse than forgetting.
        _, rms = path_gains(torch.full((30,), 0.1), torch.full((30,), 50.0))
        assert (rms <= 1 / math.sqrt(0.1) + 1e-12).all()

    def test_a_memory_of_no_step_is_refused(self):
        with pytest.raises(ValueError, match="memory must be at least 1, got 0"):
            path_gains(torch.ones(3), torch.zeros(3), 0)


@pytest.mark.parametrize("coupling", ["global", "local", "none"])
def test_pull_back_is_the_transposed_jacobian(coupling):
    process = KuramotoDiffusion(
        shape=(2, 3, 4), steps=5, coupling=coupling, neighbourhood_radius=1, reference_phase=0.4
    )
    shape = (1, 2, 3, 4)
    theta = 6 * torch.rand(shape, generator=generator(), dtype=torch.float64) - 3
    vector = torch.randn(shape, generator=generator(1), dtype=torch.float64)
    _, expected = torch.autograd.functional.vjp(lambda x: process.drift(x, 5), theta, vector)
    found = process.flow(theta, 5).pull_back(vector)
    assert (found - expected).abs().max() < 1e-15


# Integration by parts, E[div g(theta)] = -E[g . score], for every field g on the torus.
FIELDS = {
    "each": lambda x: (x.sin(), x.cos().sum(1)),
    "twice": lambda x: ((2 * x).cos(), -2 * (2 * x).sin().sum(1)),
    "difference": lambda x: ((x - x.roll(1, 1)).sin(), (x - x.roll(1, 1)).cos().sum(1)),
    "smooth sine": lambda x: (x.sin().sum(1, keepdim=True).expand_as(x), x.cos().sum(1)),
    "smooth cosine": lambda x: (x.cos().sum(1, keepdim=True).expand_as(x), -x.sin().sum(1)),
}


def stein_defects(process, number, steps, seed=0):
    """How many standard errors each field's identity is off."""
    rng = generator(seed)
    kind = torch.randint(0, 2, (number, 1, 1, 1), generator=rng).double()
    noise = torch.rand((number, *process.shape), generator=rng, dtype=torch.float64)
    state = process.encode(kind * 1.2 - 0.5 + 0.3 * noise)
    state, weight = run(process, state, steps, rng)
    state, weight = state.flatten(1), weight.flatten(1)
    defects = {}
    for name, field in FIELDS.items():
        value, divergence = field(state)
        defect = divergence - (value * weight).sum(1)
        defects[name] = (defect.mean() / (defect.std() / math.sqrt(number))).item()
    return defects


#: Much stronger than released, so that a wrong treatment of the coupling would show.
STRONG = {"coupling_strength": 0.25, "reference_strength": 0.1, "noise_range": (0.02, 0.1)}


@pytest.mark.parametrize("memory", [1, 3, None])
@pytest.mark.parametrize(
    ("shape", "change"),
    [
        ((1, 2, 2), {"coupling": "global"}),
        ((1, 1, 12), {"coupling": "local", "neighbourhood_radius": 2}),
        (
            (1, 1, 12),
            {"coupling": "local", "neighbourhood_radius": 1, "neighbourhood": "gaussian"},
        ),
        ((2, 1, 2), {"coupling": "none", "coupling_strength": 0.0}),
        ((1, 2, 2), {"coupling": "global", "noise_range": (0.2, 4.0)}),
    ],
    ids=["global", "local", "gaussian", "none", "wrapping"],
)
def test_it_is_unbiased_whatever_the_coupling(shape, change, memory):
    process = KuramotoDiffusion(shape=shape, steps=12, memory=memory, **{**STRONG, **change})
    defects = stein_defects(process, 60_000, 12)
    assert max(map(abs, defects.values())) < 4, defects


def test_the_identities_would_see_a_missing_feedback(monkeypatch):
    # What happens if the mean field is held fixed in the derivative.
    whole = LocalMeanField.of

    def without_answers(field, waves):
        pulls, refresh = whole(field, waves)

        def again():
            refresh()
            pulls[2:] = 0

        return pulls, again

    monkeypatch.setattr(LocalMeanField, "of", without_answers)
    process = KuramotoDiffusion(
        shape=(1, 1, 12), steps=12, coupling="local", neighbourhood_radius=2, **STRONG
    )
    assert max(map(abs, stein_defects(process, 60_000, 12).values())) > 20


@pytest.mark.parametrize("gain", [0.0, 0.4, 0.8])
@pytest.mark.parametrize(
    ("shape", "change"),
    [
        ((1, 2, 2), {"coupling": "global"}),
        ((1, 1, 4), {"coupling": "local", "neighbourhood_radius": 1}),
    ],
    ids=["global", "ring"],
)
class TestFourPhases:
    """Two steps of four coupled phases, by quadrature over the phases between them.

    Given both ends of a step its noise is known but for turns, over which the wrapped normal's
    score is the mean; the weight is linear in the noise, so its mean where the second step ends is
    an integral over where the first one did.
    """

    nodes = 16
    points = ((-1.8, 0.4, 0.9, 2.0), (1.2, -0.3, 0.1, -2.5))
    shares = (0.6, 0.4)

    def means(self, shape, change, gain, frozen=False):
        """Of -H_2 and of the score of the second step, at some places where it ends."""
        process = KuramotoDiffusion(
            shape=shape,
            steps=2,
            coupling_strength=0.6,
            reference_strength=0.3,
            noise_range=(0.5, 0.64),
            **change,
        )
        axis = torch.arange(self.nodes, dtype=torch.float64) * (2 * math.pi / self.nodes)
        middle = torch.cartesian_prod(*[axis] * 4).view(-1, *shape)
        one, two = (torch.tensor(process.noise_std[t], dtype=torch.float64) for t in (1, 2))
        flow = process.flow(middle, 2)
        if frozen:
            flow = replace(flow, mean_field=None)
        found = []
        for end in 6 * torch.rand((4, 1, *shape), generator=generator(), dtype=torch.float64) - 3:
            second = end - (middle + process.drift(middle, 2))
            later = wrapped_normal_log_density(second, two).flatten(1).sum(1)
            noise = -two * wrapped_normal_score(second, two)
            total, weight, score = 0.0, 0.0, 0.0
            for share, point in zip(self.shares, self.points, strict=True):
                begin = torch.tensor(point).double().view(1, *shape)
                first = middle - (begin + process.drift(begin, 1))
                earlier = wrapped_normal_log_density(first, one).flatten(1).sum(1)
                mass = share * (earlier + later).exp()
                before = -wrapped_normal_score(first, one)
                after = next_weight(before, noise, flow.pull_back(noise), gain, two)
                total = total + mass.sum()
                weight = weight + torch.einsum("m,m...->...", mass, after)
                score = score - torch.einsum("m,m...->...", mass, noise / two)
            found.append((-weight / total, score / total))
        return [torch.stack(each) for each in zip(*found, strict=True)]

    def test_conditional_means_are_the_score(self, shape, change, gain):
        weight, score = self.means(shape, change, gain)
        assert score.abs().max() > 0.3
        assert (weight - score).abs().max() < 1e-5

    def test_a_missing_feedback_would_show(self, shape, change, gain):
        weight, score = self.means(shape, change, gain, frozen=True)
        assert ((weight - score).abs().max() > 5e-3) == (gain > 0)


class TestOnePixel:
    """The table of a reference term alone, T = 100 as released, two-point data."""

    nodes = 512
    points = ((-1.8, 0.6), (1.2, 0.4))

    def scores(self, process, wanted):
        """The score at each node, from a density pushed forward."""
        cell = 2 * math.pi / self.nodes
        grid = torch.arange(self.nodes, dtype=torch.float64) * cell - math.pi
        density, found = None, {}
        for t in range(1, max(wanted) + 1):
            std = torch.tensor(process.noise_std[t], dtype=torch.float64)

            def mean(x, t=t):
                return x + process.drift(x.view(-1, 1, 1, 1), t).flatten()

            if density is None:
                density = sum(
                    share
                    * wrapped_normal_log_density(grid - mean(torch.tensor([x]).double()), std).exp()
                    for x, share in self.points
                )
            else:
                kernel = wrapped_normal_log_density(grid.unsqueeze(1) - mean(grid), std).exp()
                density = kernel @ density * cell
            if t in wanted:
                wave = 2j * math.pi * torch.fft.fftfreq(self.nodes, cell).double()
                slope = torch.fft.ifft(wave * torch.fft.fft(density)).real
                found[t] = (density * cell, slope / density)
        return found

    def check(self, number, bound):
        process = KuramotoDiffusion(shape=(1, 1, 1), steps=100, coupling="none")
        rng = generator()
        chosen = torch.rand((number, 1, 1, 1), generator=rng) < self.points[0][1]
        state = torch.where(chosen, self.points[0][0], self.points[1][0])
        chains, bins = torch.stack([state, torch.zeros_like(state)], dim=1), 32
        # Spread of the target; of the one-step target it is 5.84, 4.09, 3.16.
        table = {30: 1.517, 60: 0.849, 100: 0.713}
        expected = self.scores(process, table)
        for t in range(1, 101):
            chains = process.advance_chains(chains, torch.full((number,), t), rng)
            if t not in table:
                continue
            state, weight = chains.unbind(1)
            mass, score = (each.view(bins, -1) for each in expected[t])
            share = mass.sum(1)
            wanted = (mass * score).sum(1) / share
            # A node stands for the half cells on its two sides.
            turn = (state.flatten().double() + math.pi) / (2 * math.pi) + 0.5 / self.nodes
            place = (turn * bins).long() % bins
            total = torch.zeros(bins).double()
            total.index_add_(0, place, -weight.flatten().double())
            defect = total / (number * share) - wanted
            seen = share > 1e-3
            error = (defect.square() * share)[seen].sum().sqrt().item()
            assert weight.std().item() == pytest.approx(table[t], rel=0.02)
            assert weight.abs().max() < 6 * weight.std()
            assert error < bound * table[t], t

    def test_conditional_means_are_the_score(self):
        self.check(100_000, 0.035)

    @pytest.mark.slow
    def test_conditional_means_are_the_score_of_two_million_chains(self):
        self.check(2_000_000, 0.008)
