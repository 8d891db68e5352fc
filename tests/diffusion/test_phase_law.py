import math

import pytest
import torch

from kod_bench.diffusion import KuramotoDiffusion
from kod_bench.diffusion.circle import wrapped_normal_log_density
from kod_bench.diffusion.phase_law import (
    MODES,
    conditional_score,
    expansion,
    next_law,
    pack,
    resolved_steps,
    start_law,
    unpack,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("steps", [25, 100])
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_its_score_is_that_of_the_density_pushed_forward_on_a_grid(steps, strength):
    process = KuramotoDiffusion(shape=(1, 1, 1), steps=steps, strength=strength)
    # Noise no narrower than a few cells of the grid.
    widths = process.noise_std.values.clamp_min(0.1)
    sizes = process.coupling_strength.values + process.reference_strength.values
    orders = expansion(sizes, widths.square().cumsum(0))
    # A field that turns, as a mean field may.
    angles = torch.linspace(-1.0, 2.0, steps, dtype=torch.float64)
    nodes = 360
    cell = 2 * math.pi / nodes
    grid = torch.arange(nodes, dtype=torch.float64) * cell - math.pi
    start = torch.full((1, 1, 1, 1), 2.6, dtype=torch.float64)
    law, density = start_law(start), None
    for size, angle, width in zip(sizes.tolist(), angles.tolist(), widths, strict=True):
        real, imaginary = size * math.cos(angle), size * math.sin(angle)
        law = next_law(law, real, imaginary, width.item(), orders)
        before = start.flatten() if density is None else grid
        moved = grid.unsqueeze(1) - (before + imaginary * before.cos() - real * before.sin())
        kernel = wrapped_normal_log_density(moved, width).exp()
        density = kernel.squeeze(1) if density is None else kernel @ density * cell
    wave = 2j * math.pi * torch.fft.fftfreq(nodes, cell).double()
    expected = torch.fft.ifft(wave * torch.fft.fft(density)).real / density
    found = conditional_score(law.expand(nodes, -1, -1, -1, -1), grid.view(-1, 1, 1, 1))
    assert expected.abs().max() > 0.1
    assert (found.flatten() - expected).abs().max() < 0.003
    assert resolved_steps(sizes, widths)[-1]


def test_it_is_resolved_late_and_never_where_fields_gather_the_phases():
    process = KuramotoDiffusion(shape=(1, 1, 1), steps=100)
    sizes, widths = process.reference_strength.values, process.noise_std.values
    resolved = resolved_steps(sizes, widths)
    first = int(resolved.nonzero()[0])
    assert 0.3 < widths[: first + 1].square().sum() < 1
    assert resolved[first:].all()
    assert not resolved_steps(10 * sizes, widths).any()
    assert not resolved_steps(1000 * sizes, widths).any()


def test_pack_keeps_every_coefficient():
    law = start_law(torch.rand(2, 3, 4, 5, generator=generator()))
    planes = pack(law)
    assert planes.shape == (2, 2 * MODES, 3, 4, 5)
    assert torch.equal(unpack(planes), law)


def test_stronger_fields_need_more_orders():
    elapsed = torch.linspace(0.05, 5, 100, dtype=torch.float64)
    orders = [expansion(torch.full((100,), r, dtype=torch.float64), elapsed) for r in (0.01, 0.3)]
    assert orders[0] < orders[1]
    assert expansion(torch.zeros(100, dtype=torch.float64), elapsed) == (1, 1)


def run(process, images, rng):
    """Chains at T, the path's own estimate H, and the target's."""
    chains = process.start_chains(images)
    for t in range(1, process.steps + 1):
        step = torch.full((len(chains),), t)
        chains = process.advance_chains(chains, step, rng)
    return chains[:, 0], chains[:, 1], process.estimate(chains, step)


@pytest.mark.parametrize("coupling", ["local", "global", "none"])
def test_the_target_varies_less_than_the_paths(coupling):
    process = KuramotoDiffusion(
        shape=(1, 12, 12), steps=100, coupling=coupling, target="conditional"
    )
    images = 2 * torch.rand(64, 1, 12, 12, generator=generator()) - 1
    _, path, estimate = run(process, images, generator(1))
    assert estimate.var() < 0.8 * path.var()


def test_uncoupled_nothing_random_is_left():
    process = KuramotoDiffusion(shape=(1, 12, 12), steps=100, coupling="none", target="conditional")
    images = 2 * torch.rand(16, 1, 12, 12, generator=generator()) - 1
    state, _, estimate = run(process, images, generator(1))
    sizes, widths = process.reference_strength.values, process.noise_std.values
    law, orders = start_law(process.encode(images)), expansion(sizes, widths.square().cumsum(0))
    for size, width in zip(sizes.tolist(), widths.tolist(), strict=True):
        law = next_law(law, size, 0.0, width, orders)
    assert (estimate + conditional_score(law, state)).abs().max() < 1e-4


def difference_in_smooth_fields(radius, chains=3000):
    """E[g . (target - H)], relative, with its error: zero for every field g if both are exact."""
    process = KuramotoDiffusion(
        shape=(1, 1, 31),
        steps=40,
        coupling="local",
        neighbourhood_radius=radius,
        target="conditional",
    )
    images = torch.tensor([-0.5, 0.7]).view(2, 1, 1, 1).repeat(chains // 2, 1, 1, 31)
    state, path, estimate = run(process, images, generator(2))
    wave, difference = state.sin().flatten(1), (estimate - path).flatten(1)
    size = wave.square().sum(1).mean().sqrt() * math.sqrt(31)
    products = (wave * difference).sum(1) / size
    return products.mean().item(), products.std().item() / math.sqrt(chains)


def test_its_bias_is_the_share_of_a_phase_in_its_own_field():
    narrow, error = difference_in_smooth_fields(radius=0)
    wide, _ = difference_in_smooth_fields(radius=15)
    assert abs(narrow) > 10 * error  # a phase that feels itself alone: the worst case
    assert abs(wide) < 4 * error + abs(narrow) / 20
