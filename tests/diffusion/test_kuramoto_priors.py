import math

import pytest
import torch
from scipy import stats

from kod_bench.diffusion import KuramotoDiffusion
from kod_bench.diffusion.terminal import mean_vectors
from tests.diffusion.kuramoto_cases import generator, prints


@pytest.mark.parametrize(
    ("steps", "coupling", "kappa", "order"),
    [
        (100, "global", 1.209, 0.516),
        (300, "global", 1.139, 0.494),
        (1000, "global", 1.209, 0.516),
        (1000, "local", 0.830, 0.383),
        (100, "none", 0.900, 0.410),
    ],
)
def test_prior_of_the_released_strengths(steps, coupling, kappa, order):
    process = KuramotoDiffusion(shape=(1, 4, 4), steps=steps, coupling=coupling)
    assert process.concentration == pytest.approx(kappa, abs=6e-4)
    assert process.terminal_order == pytest.approx(order, abs=6e-4)


def test_a_matched_prior_asks_for_its_fit():
    process = KuramotoDiffusion(shape=(1, 4, 4), steps=10)
    assert process.terminal_mismatch == {}
    assert process.diagnostics() == {}
    with pytest.raises(RuntimeError, match=r"call fit\(images, generator\) before prior"):
        process.prior(2, generator())


def test_mismatch_of_white_pages():
    # methods.md 1.2: a page at 0.8 pi ends at |z| = 0.37, +0.24 rad; the prior has 0.51, 0.
    process = KuramotoDiffusion(
        shape=(1, 32, 32),
        steps=100,
        calibration_chains=64,
        reference_phase=-0.2,
    )
    turned = 0.8 / 0.9 - 0.2 / (0.9 * math.pi)
    process.fit(lambda number: torch.full((number, 1, 32, 32), turned), generator())
    found = process.terminal_mismatch["von-mises"]
    assert found.order == pytest.approx(0.37, abs=0.01)
    assert found.phase == pytest.approx(0.24, abs=0.01)
    assert found.prior_order == pytest.approx(process.terminal_order, abs=0.01)
    assert found.prior_phase == pytest.approx(0, abs=0.01)
    assert found.phase_spread > 0
    assert found.order_spread > 0


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 8, 8), (1, 1, 2)])
@pytest.mark.parametrize("white", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("coupling", ["global", "local"])
def test_it_is_as_bright_and_coherent_as_end_states(shape, white, coupling):
    process = KuramotoDiffusion(shape=shape, steps=30, coupling=coupling)
    process.fit(prints(shape, 1, white), generator())
    state, rng = process.encode(prints(shape, 2, white)(1000)), generator(3)
    for t in range(1, 31):
        state = process.forward_step(state, t, rng)
    ends, drawn = (mean_vectors(x).double() for x in (state, process.prior(1000, rng)))
    # Two pixels scatter an image's mean vector widely.
    accuracy = 0.08 if shape[1] > 1 else 0.15
    assert (drawn.mean(0) - ends.mean(0)).norm(dim=-1).max() < accuracy
    spreads = [(x - x.mean(0)).square().mean((0, 1)).sqrt() for x in (drawn, ends)]
    assert torch.allclose(*spreads, rtol=0.2)
    if shape[1] > 1:
        for summary in (
            lambda x: x.norm(dim=-1)[:, 0],
            lambda x: torch.atan2(x[:, 0, 1], x[:, 0, 0]),
        ):
            distance = stats.ks_2samp(summary(drawn).numpy(), summary(ends).numpy())
            assert distance.statistic < 0.1
