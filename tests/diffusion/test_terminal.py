import pytest
import torch

from kod_bench.diffusion.terminal import EndStateLaw, mean_vectors
from tests.diffusion.kuramoto_cases import generator


def test_two_kinds_of_page_stay_two():
    # Half at +1.5 rad, half at -1.5: a normal would put most draws between.
    rng = generator()
    kind = 3.0 * torch.randint(0, 2, (500, 1), generator=rng) - 1.5
    vectors = 0.6 * torch.stack([kind.cos(), kind.sin()], dim=-1)
    law = EndStateLaw(vectors + 0.02 * torch.randn(500, 1, 2, generator=rng), 1024)
    drawn = law.vectors(2000, generator(1), torch.float64)[:, 0]
    assert ((drawn[:, 1].abs() < 0.2).float().mean()) < 0.1
    assert drawn.norm(dim=-1).max() < 1


def test_pixels_are_independent_given_the_image():
    vectors = torch.tensor([[0.2, 0.3]]).expand(50, 1, 2)
    law = EndStateLaw(vectors, 64 * 64)
    state = law.sample((20, 1, 64, 64), generator())
    assert state.dtype == torch.float32
    found = mean_vectors(state)
    assert (found - vectors[:20]).abs().max() < 0.06
    away = state.cos() - state.cos().mean((2, 3), keepdim=True)
    assert (away * away.roll(1, 3)).mean().abs() < 0.005


@pytest.mark.parametrize("length", [0.0, 1.0])
def test_extreme_ends_are_drawn(length):
    law = EndStateLaw(torch.tensor([[length, 0.0]]).expand(9, 1, 2), 16)
    state = law.sample((5, 1, 4, 4), generator())
    assert torch.isfinite(state).all()
    assert (state.abs().max().item() < 0.7) is (length == 1.0)
