import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from kod_bench.data import DataError, DatasetOptions, load_dataset, open_dataset
from kod_bench.data.xy_model import SPACING, XyChains, burn_in, draw_fields, von_mises


def xy(size: int = 8, **section: object) -> DatasetOptions:
    return DatasetOptions.model_validate({"name": "xy", "image_size": size, "xy": section})


def equilibrium(size: int, temperature: float, chains: int, rounds: int, seed: int = 0) -> XyChains:
    found = XyChains(size, temperature, chains, np.random.default_rng(seed))
    found.advance(rounds)
    return found


def mean_energy(size: int, temperature: float, chains: int, each: int) -> tuple[float, float]:
    """Energy per site and its standard error, of chains that know nothing of each other."""
    moving = equilibrium(size, temperature, chains, burn_in(size))
    found = np.zeros(chains)
    for _ in range(each):
        moving.advance(2)
        found += moving.energies() / each
    return float(found.mean()), float(found.std(ddof=1) / math.sqrt(chains))


def test_low_temperatures_have_the_energy_of_spin_waves() -> None:
    # -2 + T / 2 + T^2 / 16 + O(T^3) per site: Kosterlitz and Thouless 1973, Jose, Kadanoff,
    # Kirkpatrick and Nelson 1977. On N sites T / 2 is of N - 1 modes: all turn together for
    # nothing.
    temperature, size = 0.2, 16
    energy, error = mean_energy(size, temperature, chains=40, each=20)
    expected = -2 + temperature / 2 * (1 - 1 / size**2) + temperature**2 / 16
    assert error < 5e-4
    assert energy == pytest.approx(expected, abs=4 * error + 5e-4)  # and T^3


def test_high_temperatures_have_the_energy_of_the_series() -> None:
    # ln z = 2 ln I_0(1/T) + 2 u^4 + 4 u^6 + O(T^-8) per site, u = I_1 / I_0: the closed paths of
    # currents on the lattice, as in Butera and Comi 1993. The energy is its derivative by -1/T.
    from scipy.special import ive

    temperature = 3.0
    u = float(ive(1, 1 / temperature) / ive(0, 1 / temperature))
    slope = 1 - u * temperature - u**2
    expected = -2 * u - (8 * u**3 + 24 * u**5) * slope
    energy, error = mean_energy(16, temperature, chains=60, each=60)
    assert error < 2e-3
    assert energy == pytest.approx(expected, abs=4 * error + 5e-4)  # and T^-7


#: Inverse temperature of the transition and, there, the helicity modulus over T and the correlation
#: length over L: their limits, and what lattices have more, over ln L + C. Hasenbusch 2005, in J.
#: Phys. A 38, 5869. The first limit is Nelson and Kosterlitz's 2 / pi, less what turns once around
#: the torus.
TRANSITION = 1.1199
STIFFNESS, STIFFNESS_SLOPE = 0.63650817819, 0.318899454
LENGTH, LENGTH_SLOPE = 0.7506912, 0.212430


def stiffness_and_length(size: int, chains: int, each: int) -> NDArray[np.float64]:
    """Of chains at the transition, (2, 20): both, of as many parts of the chains."""
    moving = equilibrium(size, 1 / TRANSITION, chains, burn_in(size), seed=size)
    stiffness, uniform, wave = np.zeros((3, chains))
    turn = np.exp(2j * np.pi * np.arange(size) / size)
    for _ in range(each):
        moving.advance(SPACING // 2)
        vectors = np.exp(1j * moving.fields().astype(np.float64))
        for axis in (1, 2):
            bonds = vectors.conj() * np.roll(vectors, -1, axis)
            twist = TRANSITION * bonds.imag.sum((1, 2)) ** 2 / size**2
            stiffness += TRANSITION * (bonds.real.mean((1, 2)) - twist) / 2 / each
            wave += np.abs(vectors.mean(3 - axis) @ turn / size) ** 2 / 2
        uniform += np.abs(vectors.mean((1, 2))) ** 2
    parts = [each.reshape(20, -1).mean(1) for each in (stiffness, uniform, wave)]
    length = np.sqrt(parts[1] / parts[2] - 1) / (2 * size * math.sin(math.pi / size))
    return np.stack([parts[0], length])


@pytest.mark.slow
def test_at_the_transition_it_is_as_stiff_as_the_literature_has_it() -> None:
    """One C of each is not universal: 16 x 16 says which, and 32 x 32 agrees."""
    small, large = stiffness_and_length(16, 200, 40), stiffness_and_length(32, 100, 60)
    for one, two, limit, slope in zip(
        small, large, (STIFFNESS, LENGTH), (STIFFNESS_SLOPE, LENGTH_SLOPE), strict=True
    ):
        constant = slope / (one.mean() - limit) - math.log(16)
        assert 0 < constant < 3
        expected = limit + slope / (math.log(32) + constant)
        error = math.hypot(one.std(ddof=1), two.std(ddof=1)) / math.sqrt(20)
        assert error < 0.008
        assert two.mean() == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize(
    ("temperature", "expected", "density"), [(0.8, -1.5271, 0.00312), (1.0, -1.3269, 0.0224)]
)
def test_both_sides_of_the_transition(temperature: float, expected: float, density: float) -> None:
    # Of 4,000 fields 32 x 32 of a longer run: 100 chains of another seed, 400 rounds, errors 0.0004
    # and 0.0006 of the energy.
    drawn = draw_fields(32, temperature, 15, 4, np.random.default_rng(5))
    fields = drawn.reshape(-1, 32, 32).astype(np.float64)
    down = fields - np.roll(fields, 1, 1)
    right = fields - np.roll(fields, 1, 2)
    energies = -(np.cos(down) + np.cos(right)).mean(axis=(1, 2))
    error = energies.std(ddof=1) / math.sqrt(len(energies))
    assert error < 0.01
    assert energies.mean() == pytest.approx(expected, abs=4 * error)
    shares = plaquettes_with_vortex(fields)
    error = shares.std(ddof=1) / math.sqrt(len(shares))
    assert shares.mean() == pytest.approx(density, abs=4 * error)


def plaquettes_with_vortex(fields: NDArray[np.float64]) -> NDArray[np.float64]:
    def wrapped(angles: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((angles + np.pi) % (2 * np.pi) - np.pi)

    right = wrapped(np.roll(fields, -1, 2) - fields)
    down = wrapped(np.roll(fields, -1, 1) - fields)
    around = down + np.roll(right, -1, 1) - np.roll(down, -1, 2) - right
    return np.asarray((np.abs(around) > 3).mean(axis=(1, 2)), np.float64)


def on_circle(angles: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def in_plane(chains: XyChains) -> NDArray[np.complex128]:
    """(L L, chains): the vectors as complex numbers."""
    cosine, sine = chains.vectors.astype(np.float64)
    return np.asarray(cosine + 1j * sine)


@pytest.mark.parametrize("concentration", [0.0, 0.3, 2.0, 9.0, 400.0])
def test_von_mises_draws_have_its_moments(concentration: float) -> None:
    # E cos(n theta) = I_n(k) / I_0(k), E sin(n theta) = 0.
    from scipy.special import ive

    cosine, sine = von_mises(np.full(200_000, concentration), np.random.default_rng(1)).astype(
        float
    )
    np.testing.assert_allclose(cosine**2 + sine**2, 1, atol=3e-7)
    ratios = [float(ive(n, concentration) / ive(0, concentration)) for n in range(9)]
    for n in (1, 2, 4):
        wave = (cosine + 1j * sine) ** n
        variances = (1 + ratios[2 * n]) / 2 - ratios[n] ** 2, (1 - ratios[2 * n]) / 2
        for found, expected, variance in zip(
            (wave.real.mean(), wave.imag.mean()), (ratios[n], 0.0), variances, strict=True
        ):
            assert found == pytest.approx(expected, abs=4 * math.sqrt(variance / 200_000) + 1e-7)


def exact_draws(count: int, temperature: float, seed: int) -> XyChains:
    """A lattice of 2 x 2, each of whose four bonds counts twice, drawn by rejection."""
    generator = np.random.default_rng(seed)
    chains = XyChains(2, temperature, count, generator)
    filled = 0
    while filled < count:
        chains.vectors = on_circle(2 * np.pi * generator.random((4, count)))
        weight = np.exp(-(4 * chains.energies() + 8) / temperature)  # 1 at the least energy
        kept = chains.vectors[..., generator.random(count) < weight][..., : count - filled]
        if not filled:
            found = np.empty((2, 4, count), np.float32)
        found[..., filled : filled + kept.shape[2]] = kept
        filled += kept.shape[2]
    chains.vectors = found
    return chains


def test_the_energy_of_two_by_two_is_that_of_all_states() -> None:
    # Every state of the three differences on a grid; sums of a smooth periodic function converge
    # faster than any power of its step.
    temperature = 1.3
    grid = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    b, c, d = np.meshgrid(grid, grid, grid, indexing="ij")
    bonds = np.cos(b) + np.cos(c) + np.cos(b - d) + np.cos(c - d)
    weight = np.exp(2 * bonds / temperature)
    expected = float(-(2 * bonds * weight).sum() / weight.sum() / 4)
    energy, error = mean_energy(2, temperature, chains=4000, each=5)
    assert error < 5e-3
    assert energy == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize("step", ["heat bath", "over-relaxation"])
def test_detailed_balance(step: str) -> None:
    # From exact draws, one colour is updated: as many go from one region of states to another as
    # come back. The regions are of what the update changes: two phases relative to a third.
    count, regions = 60_000, 6
    chains = exact_draws(count, 1.5, seed=3)

    def region() -> NDArray[np.intp]:
        vectors = in_plane(chains)
        theta = np.angle(vectors / vectors[2])
        own = np.floor((theta[:2] + np.pi) / (2 * np.pi) * regions).astype(np.intp) % regions
        return np.asarray(own[0] * regions + own[1])

    before = region()
    if step == "heat bath":
        chains.draw_colour(slice(0, 2))
    else:
        chains.mirror_colour(slice(0, 2))
    moves = np.zeros((regions**2, regions**2))
    np.add.at(moves, (before, region()), 1)
    both = moves + moves.T
    upper = np.triu(both > 0, 1)
    squares = ((moves - moves.T) ** 2 / np.maximum(both, 1))[upper]
    # Chi square of as many degrees as there are pairs.
    assert squares.sum() < len(squares) + 5 * math.sqrt(2 * len(squares))
    stays = np.bincount(before, minlength=36) - np.bincount(region(), minlength=36)
    assert np.abs(stays).max() < 6 * math.sqrt(2 * count / 36)


@pytest.mark.parametrize("apart", [0.0, 2.0, 3.1])
def test_a_heat_bath_has_the_moments_of_its_conditional_law(apart: float) -> None:
    # On 2 x 2 both neighbours count twice: h = 2 (v + w). The moments of the von Mises law about
    # its direction are E e^{in(theta - arg h)} = I_n(|h| / T) / I_0(|h| / T).
    from scipy.special import ive

    count, temperature = 40_000, 0.7
    others = on_circle(np.array([[0.4], [0.4 + apart]]))
    chains = XyChains(2, temperature, count, np.random.default_rng(7))
    chains.vectors[:, 2:] = others
    field = 2 * in_plane(chains)[2:, 0].sum()
    chains.draw_colour(slice(0, 2))
    drawn = in_plane(chains)[:2].ravel() * (field.conjugate() / abs(field))
    np.testing.assert_array_equal(chains.vectors[:, 2:], np.broadcast_to(others, (2, 2, count)))
    concentration = abs(field) / temperature
    for n in (1, 2, 3):
        moment = float(ive(n, concentration) / ive(0, concentration))
        twice = float(ive(2 * n, concentration) / ive(0, concentration))
        errors = (1 + twice) / 2 - moment**2, (1 - twice) / 2  # variances of cosine and sine
        wave = drawn**n
        for mean, expected, variance in zip(
            (wave.real.mean(), wave.imag.mean()), (moment, 0.0), errors, strict=True
        ):
            assert mean == pytest.approx(expected, abs=4 * math.sqrt(variance / len(drawn)))


def test_over_relaxation_keeps_the_energy_and_moves_the_phases() -> None:
    chains = equilibrium(8, 0.8, 10, 20)
    energies, vectors = chains.energies(), chains.vectors.copy()
    chains.over_relax()
    np.testing.assert_allclose(chains.energies(), energies, atol=1e-5)
    assert np.abs(chains.vectors - vectors).mean() > 0.1


@pytest.mark.parametrize("size", [2, 8])
def test_mirroring_one_colour_twice_changes_nothing(size: int) -> None:
    chains = equilibrium(size, 1.0, 50, 20)
    start, energies, half = chains.vectors.copy(), chains.energies(), size**2 // 2
    even, odd = slice(0, half), slice(half, None)
    for colour, other in ((even, odd), (odd, even)):
        before = chains.vectors.copy()
        chains.mirror_colour(colour)
        np.testing.assert_allclose(chains.energies(), energies, atol=1e-5)
        np.testing.assert_array_equal(chains.vectors[:, other], before[:, other])
        assert np.abs(chains.vectors[:, colour] - before[:, colour]).mean() > 0.1
        chains.mirror_colour(colour)
        np.testing.assert_allclose(chains.vectors, before, atol=1e-5)
    # Over-relaxation is one colour after the other.
    chains.over_relax()
    chains.mirror_colour(odd)
    chains.mirror_colour(even)
    np.testing.assert_allclose(chains.vectors, start, atol=1e-4)


def test_a_round_keeps_the_law_of_all_states() -> None:
    # Of exact draws, moved or not, energies have the moments of the sum over all states.
    temperature, count = 1.3, 40_000
    grid = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    b, c, d = np.meshgrid(grid, grid, grid, indexing="ij")
    energy = -(np.cos(b) + np.cos(c) + np.cos(b - d) + np.cos(c - d)) / 2
    weight = np.exp(-4 * energy / temperature)
    weight /= weight.sum()
    chains = exact_draws(count, temperature, seed=8)
    for _ in range(3):
        found = chains.energies()
        diagonal = (chains.vectors[:, 0] * chains.vectors[:, 1]).sum(0, dtype=np.float64)
        # Sites 0 and 1 are of one colour, and so on the diagonal.
        for values, states in ((found, energy), (found**2, energy**2), (diagonal, np.cos(d))):
            error = values.std(ddof=1) / math.sqrt(count)
            assert values.mean() == pytest.approx(float((weight * states).sum()), abs=4 * error)
        chains.advance(1)


def vortices_of_series(temperature: float) -> float:
    """Share of plaquettes with a vortex at a high temperature, up to u^6, u = I_1 / I_0 of 1 / T.

    Four phases around a plaquette alone: its wrapped differences are independent but for their
    sum, a multiple of 2 pi. The rest of the lattice ties neighbours by paths around, 1 of three
    bonds and 3 of five on either bond's outer side, of weight 2 u^length cos of the difference.
    """
    from scipy.special import ive

    steps = 1024
    difference = np.linspace(-np.pi, np.pi, steps + 1)
    u = float(ive(1, 1 / temperature) / ive(0, 1 / temperature))
    law = np.exp((np.cos(difference) - 1) / temperature)
    law *= 1 + 2 * (u**3 + 3 * u**5) * np.cos(difference)
    law[[0, -1]] /= 2
    two = np.convolve(law, law)
    sums = np.convolve(two, two)  # of four, from -4 pi to 4 pi
    minus, none, plus = sums[[steps, 2 * steps, 3 * steps]]
    return float((minus + plus) / (minus + none + plus))


def test_high_temperatures_have_the_vortices_of_the_series() -> None:
    import torch

    from kod_bench.evaluation.angles import vortices

    # Independent phases: of four uniform differences, the sum is +-2 pi with 2 (1/6) to (2/3).
    assert vortices_of_series(1e9) == pytest.approx(1 / 3, abs=1e-6)
    temperature, chains, each = 3.0, 100, 60
    moving = equilibrium(16, temperature, chains, 30)
    found = np.zeros(chains)
    for _ in range(each):
        moving.advance(2)
        winding = vortices(torch.from_numpy(moving.fields()).double())
        found += (winding != 0).double().mean((1, 2)).numpy() / each
    error = found.std(ddof=1) / math.sqrt(chains)
    assert error < 6e-4  # the longer paths make 0.0026
    expected = vortices_of_series(temperature)
    assert found.mean() == pytest.approx(expected, abs=4 * error + 1e-4)  # and u^6


def test_fields_of_a_chain_are_far_apart() -> None:
    fields = draw_fields(16, 1.0, 60, 6, np.random.default_rng(1))
    order = np.abs(np.exp(1j * fields).mean(axis=(2, 3)))
    order -= order.mean()
    correlation = (order[:, 1:] * order[:, :-1]).mean() / order.var()
    assert SPACING == 16
    assert abs(correlation) < 0.06 + 4 / math.sqrt(60 * 5)


def test_a_data_set_of_floats_with_chains_on_one_side(tmp_path: Path) -> None:
    dataset = load_dataset(xy(count=130), None, tmp_path)
    assert (dataset.name, dataset.values) == ("xy", "angles")
    assert len(dataset.train) + len(dataset.test) == 130
    assert dataset.details.split.startswith("by chain: 40 ")
    for side in (dataset.train, dataset.test):
        assert str(side.dtype) == "torch.float32"
        assert side.shape[1:] == (1, 8, 8)
        assert float(side.min()) >= -np.float32(math.pi)
        assert float(side.max()) < np.float32(math.pi)
    assert isinstance(open_dataset(xy(count=130), None, tmp_path).images.train, np.memmap)


def test_what_fields_depend_on(tmp_path: Path) -> None:
    def content(**section: object) -> str:
        return open_dataset(xy(count=50, **section), None, tmp_path).content_hash

    assert len({content(), content(seed=1), content(temperature=1.0)}) == 3
    assert content() == content()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"image_size": 9}, "even side"),
        ({"view": "patches"}, "not cut"),
        ({"color": "rgb"}, "one channel"),
        ({"value_range": [0, 1]}, "range of their own"),
        ({"xy": {"temperature": 0}}, "greater than or equal to 0.02"),
        ({"angles": {"unit": "degrees"}}, "of data sets angles:PATH"),
    ],
)
def test_wrong_options_are_refused(said: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DatasetOptions.model_validate({"name": "xy", "image_size": 8, **said})


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="angles:"):
        open_dataset(xy(), tmp_path, tmp_path / "cache")


def test_options_of_earlier_sweeps_are_what_they_were() -> None:
    dumped = DatasetOptions(name="fingerprints", image_size=32).model_dump(mode="json")
    assert not {"xy", "orientation", "flow", "angles"} & dumped.keys()
    assert xy(temperature=1.0).model_dump(mode="json")["xy"]["temperature"] == 1.0
