"""Maps of the sphere: their spectrum, their split, and a user's files."""

import math
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from kod_bench.data import DataError, DatasetOptions, known_spectrum, load_dataset, sphere_fields
from kod_bench.data.sphere_fields import GRAY, Land, known_power, log_normal_power, power_law
from kod_bench.data.sphere_maps import interpolate
from kod_bench.data.sphere_options import SphereField
from kod_bench.diffusion.spherical_harmonics import angular_power, sphere_grid
from kod_bench.evaluation.angular import AngularSpectrum, spectrum_distance
from tests.diffusion.harmonics_by_scipy import harmonics_by_scipy

SIZE = 16


def sphere(field: SphereField = "gaussian", count: int = 400, **others: object) -> DatasetOptions:
    options = {"name": "sphere", "image_size": SIZE, "sphere": {"field": field, "count": count}}
    return DatasetOptions.model_validate(options | others)


def mean_power(maps: torch.Tensor) -> np.ndarray:
    coefficients = maps.double().flatten(1) @ sphere_grid(maps.shape[2]).analysis.mT
    return angular_power(coefficients, maps.shape[2]).mean(dim=0).numpy()


@pytest.fixture(scope="module")
def land() -> Land:
    """The Earth, from a mask of coarse cells where reading the real one would take seconds."""
    rows, columns = np.mgrid[:90, :180]
    cells = ((rows - 30) ** 2 + (columns - 60) ** 2 < 300) | (rows > 80)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sphere_fields, "_read_land", lambda _: cells.astype(float))
        return Land.load(SIZE)


@pytest.mark.parametrize("field", ["gaussian", "log-normal"])
def test_random_fields_have_the_spectrum_that_is_known(tmp_path: Path, field: SphereField) -> None:
    options = sphere(field)
    maps = torch.cat([(d := load_dataset(options, None, tmp_path)).train, d.test])
    ratio = mean_power(maps)[1:] / known_power(options.sphere, SIZE)[1:]
    # A chi-square of 400 (2 l + 1) degrees of freedom, heavier-tailed if log-normal; 4 deviations.
    degree = np.arange(1, SIZE)
    allowed = 4 * np.sqrt(2 / (400 * (2 * degree + 1))) * (1 if field == "gaussian" else 1.7)
    assert (np.abs(ratio - 1) < allowed + 0.03).all(), ratio
    clipped = ((maps == 0) | (maps == 255)).double().mean()
    assert clipped < 0.001


def test_the_known_spectrum_is_that_of_built_in_maps_alone(tmp_path: Path) -> None:
    options = sphere("log-normal")
    dataset = load_dataset(options, None, tmp_path)
    power = known_spectrum(dataset.name, options)
    assert power is not None
    assert spectrum_distance(AngularSpectrum.of(dataset.test), AngularSpectrum(1, power)) < 0.15
    assert known_spectrum("my-maps", options) is None  # a user's
    assert (
        known_spectrum("fingerprints", DatasetOptions(name="fingerprints", image_size=32)) is None
    )


def test_a_power_law_has_unit_variance_and_falls_as_it_says() -> None:
    power = power_law(SIZE, 2.5)
    assert power[0] == 0
    assert (2 * np.arange(SIZE) + 1) @ power == pytest.approx(4 * math.pi)
    assert power[7] / power[3] == pytest.approx(2**-2.5)


def test_the_variance_of_a_log_normal_field_is_the_sum_of_its_power() -> None:
    power = log_normal_power(np.pad(power_law(8, 3), (0, 56)))
    variance = math.exp(0.25) * math.expm1(0.25)
    assert (2 * np.arange(64) + 1) @ power / (4 * math.pi) == pytest.approx(variance, rel=1e-6)


def test_turned_land_keeps_its_spectrum_map_by_map(land: Land) -> None:
    options = sphere("land-sea").sphere
    maps = sphere_fields.draw_maps(options, SIZE, 0, 4, land)
    known = known_power(options, SIZE, land)
    for each in maps:
        # Rounding adds noise of variance 1 / 12 a pixel, 0.002 a coefficient, to powers from 1 on.
        power = mean_power(torch.from_numpy(each)[None, None])
        assert power[1:] == pytest.approx(known[1:], rel=0.03, abs=0.06)
    assert np.abs(maps[0].astype(float) - maps[1]).max() > 100, "they are turned differently"
    assert 0 < maps.min() < 30
    assert 220 < maps.max() < 255


def test_land_is_expanded_and_turned_exactly(land: Land) -> None:
    generator = np.random.default_rng(0)
    points = generator.standard_normal((50, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    colatitude, longitude = np.arccos(points[:, 2]), np.arctan2(points[:, 1], points[:, 0])
    exact = harmonics_by_scipy(SIZE, colatitude, longitude) @ land.coefficients
    assert land.turned(points) == pytest.approx(exact, abs=1e-3)
    poles = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    at_poles = harmonics_by_scipy(SIZE, np.array([0, math.pi]), np.zeros(2)) @ land.coefficients
    assert land.turned(poles) == pytest.approx(at_poles, abs=1e-3)


@pytest.mark.slow
def test_the_real_land_covers_29_percent_of_the_earth() -> None:
    real = Land.load(SIZE)
    assert real.coefficients[0] / math.sqrt(4 * math.pi) == pytest.approx(0.291, abs=0.005)
    # Brazil, central Africa, Siberia; the middles of the Pacific, Atlantic and Indian oceans.
    degrees = np.radians([[-10, -55], [5, 22], [62, 100], [0, -150], [-25, -20], [-25, 80]])
    latitude, longitude = degrees.T
    points = [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude)]
    values = real.turned(np.stack([*points, np.sin(latitude)], axis=1))
    assert (values[:3] > 0.7).all()
    assert (values[3:] < 0.2).all()


def test_without_the_package_land_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"needs the package global-land-mask; pip install [^\n]*$"):
        load_dataset(sphere("land-sea"), None)


def test_the_split_is_fixed_and_has_no_map_on_both_sides(tmp_path: Path) -> None:
    found = load_dataset(sphere(count=50), None, tmp_path / "one")
    again = load_dataset(sphere(count=50), None, tmp_path / "two")
    assert found.content_hash == again.content_hash
    assert found.name == "sphere-gaussian"
    assert found.train.shape == (40, 1, SIZE, 2 * SIZE)
    assert found.test.shape == (10, 1, SIZE, 2 * SIZE)
    train, test = ({each.numpy().tobytes() for each in side} for side in (found.train, found.test))
    assert len(train | test) == 50
    other = load_dataset(
        sphere(count=50, sphere={"count": 50, "seed": 1}), None, tmp_path / "other"
    )
    assert not train & {each.numpy().tobytes() for each in other.train}


@pytest.mark.parametrize(
    ("field", "size", "expected"),
    [
        ("gaussian", 16, "4a0086ef0ffc780d0210f987c92aa376"),
        ("gaussian", 32, "f6995c5a5ce0618c250dca0281650427"),
        ("log-normal", 16, "6ed044ca505d2737ae01846ceb0b78b0"),
        ("log-normal", 32, "106de830018ff87629da09e7482ac457"),
        ("land-sea", 16, "1fe654887e00efb2b8a49d2cc2bc662f"),
        pytest.param(
            "land-sea", 32, "ec30de8a624257c1f6fdcad2cd0ae983", marks=pytest.mark.slow
        ),  # reading the Earth takes two seconds
    ],
)
def test_built_in_maps_are_what_they_were(
    field: SphereField, size: int, expected: str, tmp_path: Path
) -> None:
    """Sweeps and released numbers name their maps by this hash, whoever computes the harmonics."""
    found = load_dataset(sphere(field, count=50, image_size=size), None, tmp_path)
    assert found.content_hash == expected


def test_more_maps_are_the_same_ones_and_others() -> None:
    options = sphere().sphere
    few, many = (sphere_fields.draw_maps(options, SIZE, *span) for span in ((3, 2), (0, 8)))
    assert (few == many[3:5]).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"view": "patches"}, "view must be whole"),
        ({"color": "rgb"}, "color must be gray"),
        ({"augment": ["rotate"]}, "not square"),
        ({"image_size": 128}, "at most 64 rows"),
        ({"sphere": {"field": "cubic"}}, "'gaussian', 'log-normal' or 'land-sea'"),
    ],
)
def test_what_a_sphere_cannot_be_is_said(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DatasetOptions.model_validate({"name": "sphere", "image_size": SIZE} | wrong)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten smooth maps of different sizes and types, between -5 and 5."""
    root = tmp_path / "maps"
    root.mkdir()
    for number in range(10):
        height, width = (25 + number, 48 + 2 * number)
        theta = np.arange(height)[:, None] * math.pi / (height - 1)
        phi = np.arange(width) * 2 * math.pi / width
        values = 5 * np.sin(theta) * np.cos(phi - number)
        kind = np.float32 if number % 2 else np.dtype(">f8")
        np.save(root / f"{number}.npy", values.astype(kind))
    return root


def test_a_folder_of_maps_is_put_on_the_grid(tmp_path: Path, folder: Path) -> None:
    found = load_dataset(sphere(), folder, tmp_path / "cache")
    assert found.name == "sphere"
    assert (len(found.train), len(found.test)) == (8, 2)
    assert found.warnings == ()
    assert "maps 25x48 on grid poles (both end rows are poles)" in found.description
    assert "and 7 other shapes" in found.description
    # Degree 1 alone: nothing else is in these maps but rounding.
    power = mean_power(torch.cat([found.train, found.test]))
    assert power[2:].sum() < 1e-3 * power[1]
    assert power[1] == pytest.approx((127.5**2 * 4 * math.pi / 3) / 3, rel=0.01)


def _pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: np.save(path, np.zeros((3, 16, 32))), r"shape (3, 16, 32); needs (latitudes"),
        (lambda path: np.save(path, np.zeros((4, 32))), r"each at least 8"),
        (lambda path: np.save(path, np.eye(16) / 0), "a value that is NaN, infinite"),
        (lambda path: np.save(path, np.full((16, 32), 1e308)), "beyond 1e100"),
        (lambda path: np.save(path, np.eye(16, dtype=complex)), "type complex128; needs real"),
        (lambda path: np.save(path, np.full((16, 32), "a")), "type <U1; needs real numbers"),
        (_pickled, "pickled Python objects; needs numbers"),
        (lambda path: path.write_bytes(pickle.dumps([1])), "no NumPy array, or cut short"),
        (lambda path: path.write_bytes(b""), "no NumPy array, or cut short"),
        (lambda path: path.mkdir(), None),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_a_bad_file_is_skipped_with_its_reason(
    tmp_path: Path, folder: Path, make: Callable[[Path], None], reason: str | None
) -> None:
    good = load_dataset(sphere(), folder, tmp_path / "good")
    make(folder / "bad.npy")
    found = load_dataset(sphere(), folder, tmp_path / "cache")
    assert found.content_hash == good.content_hash
    if reason is None:  # a folder of that name
        assert found.warnings == ()
        return
    (warning,) = found.warnings
    assert warning.startswith("skipped 1 unusable image: bad.npy (")
    assert reason in warning


def test_a_map_that_is_cut_short_is_skipped(tmp_path: Path, folder: Path) -> None:
    path = folder / "3.npy"
    path.write_bytes(path.read_bytes()[:-8])
    found = load_dataset(sphere(), folder, tmp_path / "cache")
    assert found.details.skipped == {"no NumPy array, or cut short": 1}


def test_folders_without_maps_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no \.npy file, there or below$"):
        load_dataset(sphere(), tmp_path / "empty")
    with pytest.raises(DataError, match=r"No such file.*; name a folder of \.npy files$"):
        load_dataset(sphere(), tmp_path / "none")
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"needs a folder of \.npy files; unpack it"):
        load_dataset(sphere(), tmp_path / "a.zip")
    np.save(tmp_path / "empty" / "a.npy", np.eye(16) + 1j)
    with pytest.raises(DataError, match=r"holds no usable image: skipped 1 unusable image: a\.npy"):
        load_dataset(sphere(), tmp_path / "empty")


def test_interpolation_goes_around_and_over_the_poles() -> None:
    values = np.arange(12.0).reshape(2, 6)
    rows, columns = np.array([0.0, 0.0, -1.0, 2.0, 0.5]), np.array([5.5, -0.5, 1.0, 4.0, 2.0])
    assert interpolate(values, rows, columns) == pytest.approx([2.5, 2.5, 4.0, 7.0, 5.0])


def test_gray_levels_are_one_affine_map_per_field() -> None:
    assert {field: (a, round(b, 3)) for field, (a, b) in GRAY.items()} == {
        "gaussian": (127.5, 31.875),
        "log-normal": (0.0, 48.973),
        "land-sea": (25.5, 204.0),
    }
