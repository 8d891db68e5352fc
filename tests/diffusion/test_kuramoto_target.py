import math
from itertools import islice

import pytest
import torch
from scipy import stats

from kod_bench.diffusion import KuramotoDiffusion
from kod_bench.diffusion.circle import wrap
from tests.diffusion.kuramoto_cases import fitted, generator, phases, prints


def test_memory_of_one_is_the_one_step_target():
    shape, batches = (1, 6, 6), []
    for parameters in ({"target": "path", "memory": 1}, {"target": "one-step"}):
        process = KuramotoDiffusion(shape=shape, steps=20, pool_size=12, **parameters)
        batches.append(list(islice(process.training_batches(prints(shape), 6, generator()), 60)))
        assert torch.allclose(process.scale.values, process.noise_std.values, rtol=1e-14)
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one.state, other.state)
        assert torch.equal(one.target, other.target)


def test_targets_share_their_chains():
    shape, states = (1, 6, 6), []
    for target in ("path", "one-step"):
        process = KuramotoDiffusion(shape=shape, steps=20, target=target, pool_size=12)
        taken = islice(process.training_batches(prints(shape), 6, generator()), 60)
        states.append(torch.stack([batch.state for batch in taken]))
    assert torch.equal(*states)


def test_without_drift_it_is_diffusion_on_the_circle():
    process = KuramotoDiffusion(
        shape=(1, 2, 2),
        steps=30,
        coupling="none",
        reference_strength=0.0,
    )
    assert process.concentration == 0
    theta = phases(7, 1, 2, 2)
    assert (process.drift(theta, 30) == 0).all()
    rng, same = generator(), generator()
    chains = torch.stack([theta, torch.zeros_like(theta)], dim=1)
    start, total = theta, torch.zeros_like(theta)
    for t in range(1, 31):
        chains = process.advance_chains(chains, torch.full((7,), t), rng)
        noise = torch.randn(theta.shape, generator=same, dtype=theta.dtype)
        total = total + process.noise_std[t] * noise
    theta, weight = chains.unbind(1)
    variance = process.noise_std.values.square().sum()
    assert torch.allclose(weight, total / variance, rtol=1e-12)
    assert wrap(theta - start - total).abs().max() < 1e-12
    assert process.scale[30] == pytest.approx(variance.sqrt().item(), rel=1e-12)
    prior = process.prior(100, generator(3), "von-mises").flatten().numpy()
    assert stats.kstest(prior, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 0.01


@pytest.mark.parametrize("coupling", ["global", "local", "none"])
def test_its_variance_is_many_times_lower(coupling):
    process = KuramotoDiffusion(shape=(1, 12, 12), steps=100, coupling=coupling)
    process.fit(prints(process.shape), generator())
    gain = (process.scale.values / process.noise_std.values).square()
    # The path's advantage grows with the number of steps behind it.
    assert gain[0] == pytest.approx(1, rel=0.02)
    assert gain[29] > 12
    assert gain[99] > 15


@pytest.mark.parametrize("target", ["path", pytest.param("conditional", marks=pytest.mark.slow)])
def test_the_pool_has_the_law_of_fresh_chains_in_its_targets(target):
    steps, pool = 20, 3000
    process = KuramotoDiffusion(
        shape=(1, 1, 2),
        steps=steps,
        neighbourhood_radius=1,
        pool_size=pool,
        coupling="local",
        target=target,
    )
    images, rng = prints((1, 1, 2), 1), generator(2)
    pooled = {t: [] for t in (1, 7, 13, steps)}
    turns = steps * pool // 100
    for batch in islice(process.training_batches(images, 100, rng), turns, 2 * turns):
        for t, found in pooled.items():
            found.append(batch.target[batch.step == t])
    chains = process.start_chains(images(4000))
    for t in range(1, steps + 1):
        step = torch.full((4000,), t)
        chains = process.advance_chains(chains, step, rng)
        if t in pooled:
            fresh = (process.scale[t] * process.estimate(chains, step)).flatten(1)
            found = torch.cat(pooled[t]).flatten(1)
            assert stats.ks_2samp(found[:, 0].numpy(), fresh[:, 0].numpy()).pvalue > 0.005


def test_the_loss_of_zero_is_one_at_every_step():
    process = fitted()
    batches = process.training_batches(prints(process.shape, 5), 64, generator(6))
    squares, visits = torch.zeros(40), torch.zeros(40)
    for batch in islice(batches, 400):
        squares.index_add_(0, batch.step - 1, batch.target.square().mean((1, 2, 3)))
        visits.index_add_(0, batch.step - 1, torch.ones(64))
    assert ((squares / visits) - 1).abs().max() < 0.06


def test_the_unfitted_scale_is_near():
    process = KuramotoDiffusion(shape=(1, 12, 12), steps=40, coupling="local", target="path")
    unfitted = process.scale.values
    process.fit(prints(process.shape), generator())
    ratio = process.scale.values / unfitted
    assert ratio.max() < 1.25
    assert ratio.min() > 0.8


def test_the_one_step_target_keeps_the_papers_unit():
    process = fitted(target="one-step")
    assert torch.allclose(process.scale.values, process.noise_std.values, rtol=1e-14)
    assert set(process.terminal_mismatch) == {
        "matched",
        "correlated",
        "von-mises",
        "stationary",
    }


def test_loss_weights_are_powers_of_the_noise():
    def weights(**change):
        process = KuramotoDiffusion(shape=(1, 4, 4), steps=50, **change)
        return process, process.loss_weights().values

    for target in ("one-step", "path"):
        for name, power in (("unit", 0), ("likelihood", 1), ("released", 2)):
            process, found = weights(target=target, loss_weight=name)
            # On the error of the score, which is that of the prediction over its scale.
            on_score = found * process.scale.values.square()
            variance = process.noise_std.values.square()
            if power:
                expected = variance**power
                assert torch.allclose(on_score / on_score[-1], expected / expected[-1])
            else:
                assert (found == 1).all()
            assert found.mean().item() == pytest.approx(1)
    # In units of one step's noise the paper's weight is 1.
    assert torch.allclose(
        weights(target="one-step", loss_weight="likelihood")[1], torch.ones(50).double()
    )
