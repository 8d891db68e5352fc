import copy
import math
from itertools import count, islice

import pytest
import torch
from scipy import stats

from kod_bench.diffusion import KuramotoDiffusion, TrainingBatch
from kod_bench.diffusion.chain_pool import ChainPool, staggered_steps
from kod_bench.diffusion.circle import wrap


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Recorder:
    """Chains that remember (their number, how many steps they made), and what was asked for."""

    def __init__(self):
        self.numbers = count()
        self.advanced = 0  # steps made
        self.walked = 0  # steps paid for

    def start(self, number):
        names = [float(next(self.numbers)) for _ in range(number)]
        return torch.stack([torch.tensor(names), torch.zeros(number)], dim=1)

    def walk(self, chains, step, count):
        assert len(chains) == len(step)
        # A chain that is not to stand still is where the pool says.
        assert torch.equal(chains[:, 1].long(), step.clamp_min(0))
        self.walked += count * len(chains)
        made = (step + count).clamp_min(0) - step.clamp_min(0)
        self.advanced += int(made.sum())
        return chains + torch.stack([torch.zeros(len(step)), made.float()], dim=1)

    def visit(self, chains, step):
        state = chains.clone()
        return TrainingBatch(state, step, state, torch.ones(len(step), 1))

    def batches(self, steps, batch_size, pool_size, seed=0, chain_steps=1):
        return ChainPool(
            self.start,
            self.walk,
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


@pytest.mark.parametrize(("steps", "count"), [(10, 4), (7, 7), (3, 11), (12, 1)])
def test_staggered_times_are_each_uniform_and_together_spread(steps, count):
    drawn = torch.stack([staggered_steps(steps, count, o) for o in range(count * steps)])
    for times in drawn.T:
        assert times.bincount(minlength=steps + 1)[1:].tolist() == [count] * steps
    for times in drawn:
        share = times.bincount(minlength=steps + 1)[1:]
        assert share.max() - share.min() <= 1
    assert staggered_steps(10, 0, 0).tolist() == []


#: (T, batch, pool, chain_steps): the pool of the default; as released; common divisors; one chain.
LAWS = {
    "as-released": (1000, 64, 1024, 1000),
    "longer-than-a-life": (200, 16, 64, 400),
    "half": (300, 16, 64, 150),
    "common-divisor": (1000, 64, 64, 250),
    "nearly-half": (300, 16, 64, 149),
    "default": (1000, 64, 1024, 30),
    "prime": (100, 4, 8, 29),
    "one-chain": (60, 1, 1, 30),
    "short-steps": (100, 4, 64, 1),
}


def visits(batches, steps, turns):
    return torch.cat([next(batches).step for _ in range(turns)]).bincount(minlength=steps + 1)[1:]


def is_uniform(counts):
    """Whether counts of visits are no further from equal than those of independent draws."""
    # One chain's visits exclude each other, so that counts spread less than independent ones.
    return stats.chisquare(counts.numpy()).pvalue > 0.001


@pytest.mark.parametrize("law", LAWS)
def test_every_t_is_trained_equally_often_in_one_run(law):
    steps, batch_size, pool, chain_steps = LAWS[law]
    batches = Recorder().batches(steps, batch_size, pool, chain_steps=chain_steps)
    turns = 12 * steps // batch_size
    counts = visits(batches, steps, turns)
    assert counts.min() > 0
    assert is_uniform(counts)


@pytest.mark.parametrize("chain_steps", [1, 6, 8, 12, 30])
def test_at_every_turn_each_t_is_expected_equally_often(chain_steps):
    # Over seeds, at one late turn; with restarts that carried steps over it held over seeds alone.
    steps, found = 12, []
    for seed in range(400):
        batches = Recorder().batches(steps, 3, 3, seed, chain_steps)
        found.append(next(islice(batches, 7, None)).step)
    assert is_uniform(torch.cat(found).bincount(minlength=steps + 1)[1:])


def test_several_workers_together_and_each_alone_train_every_t():
    steps = 60
    process = KuramotoDiffusion(shape=(1, 1, 1), steps=steps, pool_size=16, chain_steps=30)
    shares = []
    for rank in range(2):
        batches = process.shard(2).training_batches(
            lambda number: torch.zeros(number, 1, 1, 1), 8, generator(rank)
        )
        assert batches.slice_count == 1
        shares.append(visits(batches, steps, 10 * steps // 8))
    assert not torch.equal(*shares)
    for counts in (*shares, sum(shares)):
        assert is_uniform(counts)


@pytest.mark.parametrize(("batch_size", "chain_steps"), [(16, 100), (16, 50), (20, 29), (50, 3)])
def test_a_batch_has_its_chains_spread_over_t_not_in_heaps(batch_size, chain_steps):
    batches = Recorder().batches(100, batch_size, 2 * batch_size, chain_steps=chain_steps)
    quarters = torch.stack(
        [((next(batches).step - 1) // 25).bincount(minlength=4) for _ in range(400)]
    ).double()
    spread = quarters.var(0).mean()
    assert spread < 0.5 * batch_size * 3 / 16  # of independent draws


def test_a_run_follows_its_seed():
    def steps(seed):
        batches = Recorder().batches(50, 4, 8, seed, 25)
        return torch.stack([next(batches).step for _ in range(100)])

    assert torch.equal(steps(3), steps(3))
    assert not torch.equal(steps(3), steps(4))


@pytest.mark.parametrize("steps", [10, 1000])
def test_a_training_step_costs_one_forward_step_per_sample_whatever_the_steps(steps):
    recorder, batch_size, pool = Recorder(), 8, 32
    batches = recorder.batches(steps, batch_size, pool)
    for _ in range(pool // batch_size):
        next(batches)
    # On average a chain starts in the middle of its life.
    assert recorder.advanced == pytest.approx(pool * (steps + 1) / 2, rel=0.03)
    assert recorder.walked <= recorder.advanced * 1.02 + 4 * pool
    before = recorder.walked
    for _ in range(100):
        next(batches)
    assert recorder.walked - before == 100 * batch_size


@pytest.mark.parametrize("chain_steps", [1, 3, 4, 6, 9])
def test_a_chain_goes_on_until_it_has_too_few_steps_left(chain_steps):
    steps, recorder, reached = 6, Recorder(), {}
    stride = min(chain_steps, steps)
    for batch in islice(recorder.batches(steps, 5, 10, chain_steps=chain_steps), 200):
        for name, t in batch.state.long().tolist():
            if name in reached:
                assert t == reached[name] + stride
            elif name >= 10:  # one of a later generation begins within its first steps
                assert 1 <= t <= stride
            reached[name] = t
    assert max(reached.values()) == steps
    left = [steps - reached[name] for name in range(int(max(reached)) - 20)]
    assert all(0 <= each < stride for each in left)


@pytest.mark.parametrize(("steps", "chain_steps"), [(12, 1), (12, 3), (12, 5), (12, 12), (3, 7)])
def test_what_it_costs_in_images_and_forward_steps(steps, chain_steps):
    recorder, pool, batch_size, turns = Recorder(), 24, 12, 2000
    batches = recorder.batches(steps, batch_size, pool, chain_steps=chain_steps)
    list(islice(batches, 2))
    drawn, advanced = next(recorder.numbers), recorder.advanced
    list(islice(batches, turns))
    stride = min(chain_steps, steps)
    per_sample = stride * (1 - (stride - 1) / (2 * steps))
    assert recorder.advanced - advanced == pytest.approx(turns * batch_size * per_sample, rel=0.01)
    images = next(recorder.numbers) - drawn - 1
    assert images == pytest.approx(turns * batch_size * stride / steps, rel=0.01, abs=2)


def test_chains_that_begin_anew_at_every_turn_need_no_pool():
    recorder = Recorder()
    batches = recorder.batches(30, 4, 1000, chain_steps=30)
    list(islice(batches, 5))
    assert len(batches.slices) == 1
    assert next(recorder.numbers) == 20


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


@pytest.mark.parametrize(
    ("coupling", "chain_steps"),
    [("global", 1), ("local", 1), ("none", 1), ("global", 10), ("local", 7), ("none", 20)],
)
def test_the_pool_has_the_law_of_fresh_chains(coupling, chain_steps):
    steps, pool, lives = 20, 3000 if chain_steps == 1 else 1000, 2
    process = KuramotoDiffusion(
        shape=(1, 1, 2),
        steps=steps,
        coupling=coupling,
        neighbourhood_radius=1,
        pool_size=pool,
        chain_steps=chain_steps,
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
            assert len(pooled) == pytest.approx(pool, rel=0.1)
            first = stats.ks_2samp(pooled[:, 0, 0, 0].numpy(), state[:, 0, 0, 0].numpy())
            gap = [(s[:, 0, 0, 1] - s[:, 0, 0, 0]).sin().numpy() for s in (pooled, state)]
            assert first.pvalue > 0.005
            assert stats.ks_2samp(*gap).pvalue > 0.005


@pytest.mark.parametrize("chain_steps", [40, 20, 8, 7])
def test_t_theta_and_weight_have_their_joint_law_at_a_small_batch(chain_steps):
    """Without drift theta_t - sigma_t^2 H_t is where the chain began, and H_t sigma_t is normal."""
    steps, batch_size = 40, 4
    process = KuramotoDiffusion(
        shape=(1, 1, 1),
        steps=steps,
        coupling="none",
        reference_strength=0,
        pool_size=2 * batch_size,
        chain_steps=chain_steps,
    )
    source = generator(1)

    def images(number):
        return torch.randint(0, 2, (number, 1, 1, 1), generator=source) * 0.9 - 0.5

    found = []
    batches = process.training_batches(images, batch_size, generator(3))
    for batch in islice(batches, 15 * steps // batch_size):
        variance = process.noise_std.values.square().cumsum(0)[batch.step - 1]
        weight = (batch.target.flatten() / process.scale.values[batch.step - 1]).double()
        began = wrap(batch.state.flatten() - variance * weight)
        found.append(torch.stack([batch.step, began, weight * variance.sqrt()], dim=1))
    t, began, normal = torch.cat(found).T
    assert is_uniform(t.long().bincount(minlength=steps + 1)[1:])
    white = (began - 0.4 * 0.9 * math.pi).abs() < 1e-3
    assert (white | ((began + 0.5 * 0.9 * math.pi).abs() < 1e-3)).all()
    # Correlated from visit to visit, so held to the number of chains, not of visits.
    chains = len(t) * min(1.0, chain_steps / steps)
    late = t > steps / 2
    for part in (late, ~late):
        assert white[part].double().mean().item() == pytest.approx(0.5, abs=2 / math.sqrt(chains))
        distance = stats.kstest(normal[part].numpy(), "norm").statistic
        assert distance < 1.63 / math.sqrt(chains / 2)  # 1 in 100
    assert stats.spearmanr(t.numpy(), normal.numpy()).statistic < 3 / math.sqrt(chains)


def test_a_pool_put_away_goes_on_as_if_nothing_had_been():
    process = KuramotoDiffusion(shape=(1, 3, 3), steps=20, coupling="local", pool_size=20)

    def stream():
        rng = generator(4)
        return rng, process.training_batches(
            lambda n: torch.rand(n, 1, 3, 3, generator=rng) - 0.5, 4, rng
        )

    rng, batches = stream()
    list(islice(batches, 7))
    state = copy.deepcopy(batches.state_dict())
    at = rng.get_state()
    expected = list(islice(batches, 12))
    other, resumed = stream()
    resumed.load_state_dict(state)
    other.set_state(at)
    for one, two in zip(expected, islice(resumed, 12), strict=True):
        assert torch.equal(one.state, two.state)
        assert torch.equal(one.step, two.step)
        assert torch.equal(one.target, two.target)
    with pytest.raises(ValueError, match="no state of a pool of 5 x 4 chains of 20 steps"):
        resumed.load_state_dict(state | {"turn": 0})
    with pytest.raises(ValueError, match="no state of a pool"):
        resumed.load_state_dict(state | {"steps": [each + 20 for each in state["steps"]]})
