from itertools import count, islice

import pytest
import torch
from scipy import stats

from kod_bench.diffusion import KuramotoDiffusion, TrainingBatch
from kod_bench.diffusion.chain_pool import chain_batches, staggered_ages


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Recorder:
    """Chains that remember (their number, how many steps they made), and what was asked for."""

    def __init__(self):
        self.numbers = count()
        self.advanced = 0

    def start(self, number):
        names = [float(next(self.numbers)) for _ in range(number)]
        return torch.stack([torch.tensor(names), torch.zeros(number)], dim=1)

    def advance(self, chains, step):
        self.advanced += len(chains)
        after = chains + torch.tensor([0.0, 1.0])
        assert torch.equal(after[:, 1].long(), step)
        return after

    def visit(self, chains, step):
        state = chains.clone()
        return TrainingBatch(state, step, state, torch.ones(len(step), 1))

    def batches(self, steps, batch_size, pool_size, seed=0, chain_steps=1):
        return chain_batches(
            self.start,
            self.advance,
            self.visit,
            steps=steps,
            batch_size=batch_size,
            pool_size=pool_size,
            generator=generator(seed),
            chain_steps=chain_steps,
        )


@pytest.mark.parametrize(("steps", "batch_size"), [(1, 4), (7, 64), (64, 7), (1000, 16), (10, 1)])
def test_every_chain_is_at_the_step_its_batch_says(steps, batch_size):
    recorder = Recorder()
    for batch in islice(recorder.batches(steps, batch_size, 3 * batch_size), 3 * steps + 5):
        assert torch.equal(batch.state[:, 1].long(), batch.step)
        assert batch.step.dtype == torch.int64
        assert batch.step.min() >= 1
        assert batch.step.max() <= steps


@pytest.mark.parametrize("steps", [1, 5, 50])
def test_over_one_life_every_step_is_visited_equally_often(steps):
    pool, batch_size = 48, 16
    turns = islice(Recorder().batches(steps, batch_size, pool), steps * pool // batch_size)
    visits = torch.cat([batch.step for batch in turns]).bincount(minlength=steps + 1)
    assert visits[1:].tolist() == [pool] * steps


def test_every_batch_spreads_its_steps_evenly():
    steps, batch_size = 100, 20
    for batch in islice(Recorder().batches(steps, batch_size, 60), 400):
        gaps = batch.step.sort().values.diff()
        assert gaps.min() >= 4
        assert gaps.max() <= 6


def test_ages_are_uniform_over_offsets():
    offsets = torch.rand(4000, generator=generator(), dtype=torch.float64).tolist()
    ages = torch.cat([staggered_ages(10, 4, offset) for offset in offsets])
    assert stats.chisquare(ages.bincount(minlength=10).numpy()).pvalue > 0.01
    assert staggered_ages(10, 4, 1 - 1e-17).max() == 9


@pytest.mark.parametrize("steps", [10, 1000])
def test_a_training_step_costs_one_forward_step_per_sample_whatever_the_steps(steps):
    recorder, batch_size, pool = Recorder(), 8, 32
    batches = recorder.batches(steps, batch_size, pool)
    for _ in range(pool // batch_size):
        next(batches)
    set_up = recorder.advanced - pool
    assert set_up <= pool * steps / 2  # on average a chain starts in the middle of its life
    before = recorder.advanced
    for _ in range(100):
        next(batches)
    assert recorder.advanced - before == 100 * batch_size


def test_a_finished_chain_is_replaced_by_a_new_one_on_its_next_turn():
    recorder, last = Recorder(), {}
    for turn, batch in enumerate(islice(recorder.batches(6, 5, 10), 200)):
        for place, (name, age) in enumerate(batch.state.tolist()):
            key = (turn % 2, place)
            if key in last:
                old_name, old_age = last[key]
                if old_age == 6:
                    assert age == 1
                    assert name != old_name
                else:
                    assert (name, age) == (old_name, old_age + 1)
            last[key] = (name, age)


@pytest.mark.parametrize(("steps", "chain_steps"), [(12, 1), (12, 3), (12, 5), (3, 7)])
def test_more_steps_per_turn_bring_more_images_and_visit_every_t_equally(steps, chain_steps):
    recorder, pool, batch_size = Recorder(), 24, 12
    batches = recorder.batches(steps, batch_size, pool, chain_steps=chain_steps)
    # One cycle: the least number of turns after which every chain is at its first t again.
    turns = steps * pool // batch_size
    seen = [next(batches) for _ in range(turns)]
    assert torch.cat([b.step for b in seen]).bincount(minlength=steps + 1)[1:].tolist() == (
        [pool] * steps
    )
    for batch in seen:
        assert torch.equal(batch.state[:, 1].long(), batch.step)
    # Every chain lives T steps; the last ones may have just begun.
    made = turns * batch_size * chain_steps / steps
    assert next(recorder.numbers) == pytest.approx(pool + made, abs=pool)


def test_pool_is_rounded_up_to_whole_batches():
    recorder = Recorder()
    steps, batch_size = 1000, 4
    for _ in islice(recorder.batches(steps, batch_size, 9), 3):
        pass
    assert next(recorder.numbers) == 12


def test_the_receiver_may_overwrite_its_batch():
    clean = list(islice(Recorder().batches(9, 4, 8), 60))
    spoilt = Recorder().batches(9, 4, 8)
    for batch in clean:
        other = next(spoilt)
        assert torch.equal(other.state, batch.state)
        assert torch.equal(other.step, batch.step)
        other.state.fill_(-1)
        other.step.fill_(-1)


def test_a_batch_once_yielded_never_changes():
    process = KuramotoDiffusion(shape=(1, 2, 2), steps=4, pool_size=6)
    batches = process.training_batches(lambda n: torch.zeros(n, 1, 2, 2), 3, generator())
    kept = list(islice(batches, 20))
    copies = [(batch.state.clone(), batch.step.clone(), batch.target.clone()) for batch in kept]
    list(islice(batches, 20))
    for batch, (state, step, target) in zip(kept, copies, strict=True):
        assert torch.equal(batch.state, state)
        assert torch.equal(batch.step, step)
        assert torch.equal(batch.target, target)


@pytest.mark.parametrize("argument", ["batch_size", "pool_size", "chain_steps"])
def test_sizes_are_checked_at_the_call(argument):
    sizes = {"batch_size": 4, "pool_size": 8, argument: 0}
    with pytest.raises(ValueError, match=f"{argument} must be at least 1, got 0"):
        Recorder().batches(10, **sizes)


@pytest.mark.parametrize("coupling", ["global", "local", "none"])
def test_the_pool_has_the_law_of_fresh_chains(coupling):
    steps, pool, lives = 20, 3000, 2
    process = KuramotoDiffusion(
        shape=(1, 1, 2), steps=steps, coupling=coupling, neighbourhood_radius=1, pool_size=pool
    )
    source = generator(1)

    def images(number):
        # Two kinds of image, so that a chain that mixed them up would show.
        kind = torch.randint(0, 2, (number, 1, 1, 1), generator=source) * 1.2 - 0.6
        return kind + 0.2 * torch.rand(number, 1, 1, 2, generator=source)

    rng = generator(2)
    batches = process.training_batches(images, 100, rng)
    seen = {t: [] for t in (1, 7, 13, steps)}
    # The first life starts from the staggered set-up; the second only from restarts.
    for turn in range(lives * steps * pool // 100):
        batch = next(batches)
        if turn >= steps * pool // 100:
            for t, found in seen.items():
                found.append(batch.state[batch.step == t])
    state = process.encode(images(4000))
    for t in range(1, steps + 1):
        state = process.forward_step(state, t, rng)
        if t in seen:
            pooled = torch.cat(seen[t])
            assert len(pooled) == pool
            first = stats.ks_2samp(pooled[:, 0, 0, 0].numpy(), state[:, 0, 0, 0].numpy())
            gap = [(s[:, 0, 0, 1] - s[:, 0, 0, 0]).sin().numpy() for s in (pooled, state)]
            assert first.pvalue > 0.005
            assert stats.ks_2samp(*gap).pvalue > 0.005
