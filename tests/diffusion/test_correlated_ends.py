"""The prior of correlated phases, against the ends of forward chains that it was not fitted to."""

import functools
from pathlib import Path

import pytest
import torch
from scipy import special

from kod_bench.data import DatasetOptions, load_dataset
from kod_bench.data.synthetic_fingerprints import draw_prints
from kod_bench.diffusion import ImageSource, KuramotoDiffusion, run_forward, to_unit
from kod_bench.diffusion.circle import bessel_ratio_inverse, sample_von_mises
from kod_bench.diffusion.correlated_ends import (
    CorrelatedEndStateLaw,
    EndStatistics,
    correlation_distance,
    projected_order,
    residual_spectrum,
    two_point_correlation,
)
from kod_bench.diffusion.terminal import mean_vectors


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seen(*states: torch.Tensor) -> EndStatistics:
    found = EndStatistics()
    for each in states:
        found.add(each)
    return found


def smooth_fields(channels: int, rng: torch.Generator) -> ImageSource:
    """Angles over pi that vary slowly from pixel to pixel; channels are alike."""

    def draw(count: int) -> torch.Tensor:
        field = torch.randn(count, 1, 16, 16, generator=rng)
        for _ in range(4):
            around = sum(field.roll(k, axis) for k in (1, -1) for axis in (2, 3))
            field = (field + around) / 5
        own = 0.05 * torch.randn(count, channels, 16, 16, generator=rng)
        return (2 * field + own).clamp(-1, 0.999)

    return draw


@functools.cache
def pages() -> torch.Tensor:
    """Two built-in prints, every third pixel of them, (2, H, W)."""
    drawn = [torch.from_numpy(page)[::3, ::3] for _, page in draw_prints(0, 0, 2)]
    return torch.stack(drawn).float() / 127.5 - 1


def fingerprints(rng: torch.Generator) -> ImageSource:
    """Patches of them."""
    number, height, width = pages().shape

    def draw(count: int) -> torch.Tensor:
        places = [
            torch.randint(size, (count,), generator=rng).tolist()
            for size in (number, height - 16, width - 16)
        ]
        cut = [pages()[n, y : y + 16, x : x + 16] for n, y, x in zip(*places, strict=True)]
        return torch.stack(cut).unsqueeze(1)

    return draw


STRONG = {"coupling": "local", "neighbourhood_radius": 1, "coupling_ratio": 0.9}


@pytest.mark.parametrize("images", ["angles", "colours", "prints"])
@pytest.mark.parametrize("reference", [0.0, 0.3])
def test_it_is_as_coherent_as_the_ends_of_other_chains_near_and_far(
    images: str, reference: float
) -> None:
    channels = 3 if images == "colours" else 1

    def source(seed: int) -> ImageSource:
        rng = generator(seed)
        return fingerprints(rng) if images == "prints" else smooth_fields(channels, rng)

    process = KuramotoDiffusion(
        shape=(channels, 16, 16),
        steps=30,
        reading="intensity" if images == "prints" else "angle",
        reference_ratio=reference,
        **STRONG,  # type: ignore[arg-type]
    )
    process.fit(source(1), generator(2))
    ends = seen(run_forward(process, source(3)(512), generator(4)))
    drawn = {
        name: seen(process.prior(512, generator(5), name)) for name in ("matched", "correlated")
    }
    found = {name: two_point_correlation(each.spectrum) for name, each in drawn.items()}
    known = two_point_correlation(ends.spectrum)
    assert known[:, 0, 1].min() > 0.03
    assert (found["correlated"] - known).abs().max() < 0.02
    assert found["matched"][:, 0, 1].max() < 0.01
    # Their mean vectors as well, image by image.
    for moment in (lambda x: x.mean(0), lambda x: torch.cov(x.flatten(1).T).diagonal().sqrt()):
        assert (moment(drawn["correlated"].vectors) - moment(ends.vectors)).abs().max() < 0.025
    distances = {name: correlation_distance(ends.spectrum, x.spectrum) for name, x in drawn.items()}
    assert distances["correlated"] < 0.3 * distances["matched"]
    for name, distance in distances.items():
        told = process.diagnostics(name)["prior_correlation_distance"]
        assert told == pytest.approx(distance, abs=0.004)


def test_channels_that_go_together_do_so_in_draws() -> None:
    rng = generator()
    shared = torch.randn(400, 1, 8, 8, generator=rng)
    states = 1.2 * shared + 0.4 * torch.randn(400, 3, 8, 8, generator=rng)
    ends = seen(states)
    law = CorrelatedEndStateLaw(ends, generator(1))
    drawn = law.sample((400, 3, 8, 8), generator(2))
    between = [seen(x).spectrum.mean((0, 1)) for x in (states, drawn)]
    assert between[0][0, 1].abs() > 0.3
    assert (between[0] - between[1]).abs().max() < 0.05


def test_pages_stay_as_they_are_light_or_dark() -> None:
    """Mean vectors of two kinds: an average of them would be neither."""
    rng = generator()
    kind = torch.where(torch.rand(600, 1, 1, 1, generator=rng) < 0.3, -1.5, 1.5)
    noise = torch.randn(600, 1, 12, 12, generator=rng)
    law = CorrelatedEndStateLaw(seen(kind + 0.7 * (noise + noise.roll(1, 3))), generator(1))
    drawn = mean_vectors(law.sample((1000, 1, 12, 12), generator(2)))[:, 0]
    angle = torch.atan2(drawn[:, 1], drawn[:, 0])
    assert ((angle.abs() - 1.5).abs() < 0.4).float().mean() > 0.95
    assert (angle < 0).float().mean() == pytest.approx(0.3, abs=0.05)


def test_correlations_are_those_of_pairs_of_pixels() -> None:
    state = 2 * torch.randn(5, 2, 4, 6, generator=generator())
    point = torch.polar(torch.ones_like(state), state).to(torch.complex128)
    residual = point - point.mean((2, 3), keepdim=True)
    found = two_point_correlation(residual_spectrum(state))
    for rows, columns in ((0, 0), (0, 1), (3, 2)):
        there = residual.roll((-rows, -columns), (2, 3))
        pairs = (residual * there.conj()).real.mean((0, 2, 3))
        assert torch.allclose(found[:, rows, columns], pairs, atol=1e-6)


def test_statistics_of_parts_are_those_of_the_whole() -> None:
    state = torch.randn(7, 1, 4, 4, generator=generator())
    whole, parts = seen(state), seen(state[:2], state[2:])
    assert torch.allclose(whole.spectrum, parts.spectrum)
    assert torch.equal(whole.vectors, parts.vectors)
    assert correlation_distance(whole.spectrum, parts.spectrum) < 1e-7


def test_the_order_of_a_projected_normal_law() -> None:
    noise = torch.view_as_complex(torch.randn(200_000, 2, generator=generator())) / 2**0.5
    for mean in (0.0, 0.3, 1.0, 3.0):
        direction = (mean + noise) / (mean + noise).abs()
        expected = projected_order(torch.tensor(mean)).item()
        assert direction.real.mean().item() == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("order", [0.0, 0.2, 0.6, 0.95])
def test_alone_a_phase_has_a_von_mises_law(order: float) -> None:
    kappa = bessel_ratio_inverse(torch.tensor(order, dtype=torch.float64)).item()
    ends = sample_von_mises(2.5, kappa, (300, 1, 24, 24), generator())
    law = CorrelatedEndStateLaw(seen(ends), generator(1))
    drawn = law.sample((300, 1, 24, 24), generator(2)).double() - 2.5
    for n in (1, 2, 3):
        expected = special.ive(n, kappa) / special.ive(0, kappa)
        assert (n * drawn).cos().mean().item() == pytest.approx(expected, abs=0.01)
        assert (n * drawn).sin().mean().item() == pytest.approx(0, abs=0.01)


def test_it_asks_for_its_fit() -> None:
    process = KuramotoDiffusion(shape=(1, 4, 4), steps=5)
    with pytest.raises(RuntimeError, match="the prior 'correlated' is measured on training images"):
        process.prior(2, generator(), "correlated")


#: Of the laptop profiles of `angles` and `claims`.
SIZE = 32
DATA_SETS = {
    "xy": {"xy": {"count": 1200}},
    "orientation": {"synthetic": {"fingers": 24, "impressions": 1}},
    "flow": {"flow": {"count": 600}},
    "fingerprints": {"scale": 0.5, "synthetic": {"fingers": 24, "impressions": 1}},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA_SETS)
def test_it_is_as_coherent_as_the_ends_of_held_out_data(name: str, cache_dir: Path) -> None:
    """Every data set of angles, and prints; forward chains of its own held-out fields."""
    said = {"name": name, "image_size": SIZE, **DATA_SETS[name]}
    dataset = load_dataset(DatasetOptions.model_validate(said), None, cache_dir)
    process = KuramotoDiffusion(
        shape=(1, SIZE, SIZE),
        steps=50,
        reading="angle" if dataset.values == "angles" else "intensity",
        reference_ratio=0.0,
        **STRONG,  # type: ignore[arg-type]
    )
    rng = generator(1)

    def training(count: int) -> torch.Tensor:
        chosen = torch.randint(len(dataset.train), (count,), generator=rng)
        return to_unit(dataset.train[chosen])

    process.fit(training, generator(2))
    held_out = to_unit(dataset.test[torch.arange(512) % len(dataset.test)])
    ends = seen(run_forward(process, held_out, generator(4)))
    drawn = {
        prior: seen(process.prior(512, generator(5), prior)) for prior in ("matched", "correlated")
    }
    known = two_point_correlation(ends.spectrum)
    assert known[:, 0, 1].min() > 0.03
    found = two_point_correlation(drawn["correlated"].spectrum)
    assert (found - known).abs().max() < 0.04
    assert two_point_correlation(drawn["matched"].spectrum)[:, 0, 1].max() < 0.02
    ours, theirs = (
        correlation_distance(ends.spectrum, drawn[prior].spectrum)
        for prior in ("correlated", "matched")
    )
    assert ours < 0.4 * theirs
