"""A user's files of maps: on which grid they are taken to be, and what is taken for a value."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from kod_bench.data import DataError, DatasetOptions, ImageDataset, load_dataset
from kod_bench.data.fill_values import find_fill
from kod_bench.data.sphere_fields import draw_maps, power_law
from kod_bench.data.sphere_options import SphereGridName, SphereOptions
from kod_bench.diffusion.spherical_harmonics import angular_power, sphere_grid
from kod_bench.evaluation.angular import AngularSpectrum, spectrum_distance
from tests.data.test_sphere_grids import synthesise

L = 16
COUNT = 12
Write = Callable[..., Path]


def coefficients(degrees: int = L, index: float = 2.0) -> np.ndarray:
    """Of `COUNT` random fields: (COUNT, degrees^2)."""
    degree = np.floor(np.sqrt(np.arange(degrees**2) + 0.5)).astype(int)
    deviation = np.sqrt(power_law(degrees, index))[degree]
    return np.asarray(np.random.default_rng(0).standard_normal((COUNT, degrees**2)) * deviation)


def maps(
    grid: SphereGridName, rows: int, columns: int, degrees: int = L, index: float = 2.0
) -> np.ndarray:
    drawn = coefficients(degrees, index)
    return np.stack([synthesise(each, grid, rows, columns) for each in drawn])


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def save(values: Any) -> Path:
        root = tmp_path / "maps"
        root.mkdir(exist_ok=True)
        for number, each in enumerate(values):
            np.save(root / f"{number}.npy", each)
        return root

    return save


def load(folder: Path, cache: Path, size: int = L, **said: object) -> ImageDataset:
    options = {"name": "sphere", "image_size": size, "sphere": said}
    return load_dataset(DatasetOptions.model_validate(options), folder, cache)


def spectrum(found: ImageDataset) -> np.ndarray:
    """Mean C_l over l = 1..L-1, of the whole set, as shares of its sum."""
    images = torch.cat([found.train, found.test]).double().flatten(1)
    power = angular_power(images @ sphere_grid(found.train.shape[2]).analysis.mT, L)
    shares = power.mean(dim=0).numpy()[1:]
    return np.asarray(shares / shares.sum())


def expected(degrees: int = L, index: float = 2.0) -> np.ndarray:
    power = angular_power(torch.from_numpy(coefficients(degrees, index)), degrees)
    shares = power.mean(dim=0).numpy()[1:L]
    return np.asarray(shares / shares.sum())


REPEATED = True
RECOGNISED: list[tuple[str, SphereGridName, int, int, bool]] = [
    ("gauss-legendre (the values are band-limited there)", "gauss-legendre", 16, 32, False),
    ("gauss-legendre (the values are band-limited there)", "gauss-legendre", 20, 40, False),
    ("gauss-legendre (by its shape; the last row is no pole)", "gauss-legendre", 16, 31, False),
    ("gauss-legendre (by its shape; the last row is no pole, ", "gauss-legendre", 16, 31, REPEATED),
    ("cells (the values are band-limited there)", "cells", 16, 32, False),
    ("cells (the values are band-limited there, last mer", "cells", 24, 48, REPEATED),
    ("poles (both end rows are poles)", "poles", 73, 144, False),
    ("poles (both end rows are poles)", "poles", 24, 36, False),
    ("poles (both end rows are poles, last meridian repeated)", "poles", 33, 64, REPEATED),
    ("poles (both end rows are poles, last meridian repeated)", "poles", 33, 32, REPEATED),
    ("driscoll-healy (the first row is a pole)", "driscoll-healy", 32, 32, False),
    ("driscoll-healy (the first row is a pole)", "driscoll-healy", 32, 64, False),
    ("mcewen-wiaux (the last row is a pole)", "mcewen-wiaux", 16, 31, False),
    ("mcewen-wiaux (the last row is a pole, last meridian rep", "mcewen-wiaux", 16, 31, REPEATED),
]


@pytest.mark.parametrize("kind", ["f4", "u1"])
@pytest.mark.parametrize(("said", "grid", "rows", "columns", "repeated"), RECOGNISED)
def test_a_grid_is_recognised_and_keeps_all_power(
    tmp_path: Path,
    write: Write,
    said: str,
    grid: SphereGridName,
    rows: int,
    columns: int,
    repeated: bool,
    kind: str,
) -> None:
    values = maps(grid, rows, columns)
    if kind == "u1":
        values = np.rint(127.5 + 30 * values)
    values = values.clip(0 if kind == "u1" else None, 255).astype(kind)
    if repeated:
        values = np.concatenate([values, values[:, :, :1]], axis=2)
    found = load(write(values), tmp_path / "cache")
    height, width = values.shape[1:]
    assert f"maps {height}x{width} on grid {said}" in found.description
    assert found.warnings == ()
    # Rounding to 256 levels has 0.08 of variance, one 10,000th of the maps'.
    assert spectrum(found) == pytest.approx(expected(), rel=0.06)


@pytest.mark.parametrize(("rows", "columns"), [(32, 64), (64, 128)])
def test_more_degrees_than_are_asked_for_do_not_come_back_under_another_name(
    tmp_path: Path, write: Write, rows: int, columns: int
) -> None:
    values = maps("cells", rows, columns, degrees=rows, index=1.0)
    found = load(write(values), tmp_path / "cache")
    assert spectrum(found) == pytest.approx(expected(rows, 1.0), rel=0.02)


def test_the_products_own_maps_come_back_as_they_are(tmp_path: Path, write: Write) -> None:
    own = draw_maps(SphereOptions(spectral_index=1.0), L, 0, 200)
    assert (own.min(), own.max()) == (0, 255)
    found = load(write(own), tmp_path / "cache")
    assert "gauss-legendre (the values are band-limited there)" in found.description
    given = {each.tobytes() for each in own}
    back = torch.cat([found.train, found.test])
    assert {each.numpy().tobytes() for each in back} == given
    distance = spectrum_distance(
        AngularSpectrum.of(back), AngularSpectrum.of(torch.from_numpy(own)[:, None])
    )
    assert distance < 1e-9


def test_rows_from_the_south_are_turned(tmp_path: Path, write: Write) -> None:
    values = maps("driscoll-healy", 32, 64)
    folder = write(values[:, ::-1])
    with pytest.raises(
        DataError, match=r"maps 32x64 have a pole in their last row alone.*flip: la"
    ):
        load(folder, tmp_path / "cache")
    found = load(folder, tmp_path / "cache", flip="latitude")
    assert "driscoll-healy (the first row is a pole), turned to have north first" in (
        found.description
    )
    upright = load(write(values), tmp_path / "cache")
    assert found.content_hash == upright.content_hash


def test_what_shape_and_values_leave_open_is_refused_with_the_grids(
    tmp_path: Path, write: Write
) -> None:
    noise = np.random.default_rng(0).standard_normal((COUNT, 32, 64))
    folder = write(noise)
    with pytest.raises(DataError) as refused:
        load(folder, tmp_path / "cache")
    assert str(refused.value) == (
        f"data folder {folder}: maps 32x64 may be on the grid gauss-legendre or cells, and their "
        "values do not tell; say sphere.grid: gauss-legendre, or cells"
    )
    for grid in ("gauss-legendre", "cells"):
        found = load(folder, tmp_path / "cache", grid=grid)
        assert f"maps 32x64 on grid {grid} (as said)" in found.description
    # The last row has no value but one, and neither has its neighbour: a pole, or nothing there.
    noise = noise[:, :, :63]
    noise[:, -2:] = 0
    with pytest.raises(DataError, match="may be on the grid gauss-legendre or mcewen-wiaux"):
        load(write(noise), tmp_path / "cache")


def test_a_round_number_of_degrees_is_cells_and_a_blank_cap_is_no_pole(
    tmp_path: Path, write: Write
) -> None:
    noise = np.random.default_rng(0).standard_normal((COUNT, 36, 72))
    noise[:, :4] = noise[:, -4:] = 0
    found = load(write(noise), tmp_path / "cache")
    assert "maps 36x72 on grid cells (of 5 degrees)" in found.description


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((64, 32), "shape (64, 32); longitude by latitude? needs a global map, (latitudes, longit"),
        ((144, 73), "longitude by latitude?"),
        ((16, 64), "one hemisphere? needs a global map"),
        ((12, 64), "HEALPix? needs a global map"),
        ((12, 16), "shape 12x16 is that of no grid; name it by sphere.grid"),
        ((32, 32), "shape 32x32 is that of no grid"),
        ((3072,), "shape (3072,); needs (latitudes, longitudes)"),
        ((12, 8, 8), "shape (12, 8, 8); needs (latitudes, longitudes)"),
    ],
)
def test_what_is_no_global_map_is_refused_by_its_shape(
    tmp_path: Path, write: Write, shape: tuple[int, ...], reason: str
) -> None:
    values = np.random.default_rng(0).standard_normal((3, *shape))
    with pytest.raises(DataError, match="holds no usable image: skipped 3 unusable images") as said:
        load(write(values), tmp_path / "cache")
    assert reason in str(said.value)


FILLS = [
    *((-1.6375e30, "f4"), (1e20, "f4"), (1e20, "f8"), (9.969209968386869e36, "f4"), (1e15, "f4")),
    *((-9999, "f4"), (-9999, "i2"), (-32767, "i2"), (-999, "f8"), (999999, "i4"), (7e12, "f8")),
]


@pytest.mark.parametrize(("fill", "kind"), FILLS)
def test_fill_values_are_refused_with_file_and_value_or_filled(
    tmp_path: Path, write: Write, fill: float, kind: str
) -> None:
    values = (280 + 20 * maps("poles", 33, 64)).astype(kind)
    missing = np.zeros(values.shape, bool)
    missing[3:, 10:20, 5:30] = True
    folder = write(np.where(missing, np.array(fill, kind), values))
    with pytest.raises(DataError) as refused:
        load(folder, tmp_path / "cache")
    (line,) = str(refused.value).splitlines()
    assert ": 10.npy is " in line
    assert "in 11.8% of its values, which seems to mean missing; say sphere.fill: " in line
    found = load(folder, tmp_path / "cache", fill=fill)
    assert "8.9% missing (" in found.description
    area = np.sin((np.arange(33) + 0.5) * math.pi / 33)[:, None] * np.ones(64)
    means = [
        np.average(each, weights=area * ~hole) for each, hole in zip(values, missing, strict=True)
    ]
    filled = np.where(missing, np.array(means)[:, None, None], values.astype(float))
    assert found.content_hash == load(write(filled), tmp_path / "cache").content_hash


def test_nan_is_filled_where_it_is_said_and_masked_arrays_are_named(
    tmp_path: Path, write: Write
) -> None:
    values = maps("poles", 33, 64)
    values[:, 10:12, 5:30] = math.nan
    folder = write(values)
    with pytest.raises(DataError, match=r"a value that is NaN.*; say sphere.fill: nan"):
        load(folder, tmp_path / "cache")
    found = load(folder, tmp_path / "cache", fill="nan")
    assert "2.4% missing (nan), there each map's mean" in found.description
    # NumPy 2.4.6 saves no masked array (`MaskedArray.tofile() not implemented yet`), and its `dump`
    # writes a pickle, whatever the file is called. `filled()` puts 1e20 into floating-point arrays,
    # 999999 into whole numbers, and what 1e20 overflows to where the type was changed afterwards.
    masked = np.ma.masked_invalid(values[0])
    masked.dump(folder / "dumped.npy")
    np.save(folder / "flexible.npy", masked.toflex())
    warned = load(folder, tmp_path / "cache", fill="nan").warnings
    assert "dumped.npy (a pickled masked array; save its filled(VALUE), and say" in warned[0]
    assert "flexible.npy (a masked array; save its filled(VALUE), and say" in warned[0]


def test_most_of_a_map_must_be_there(tmp_path: Path, write: Write) -> None:
    values = maps("poles", 33, 64)
    values[0, :20] = -9999
    (warning,) = load(write(values), tmp_path / "cache", fill=-9999).warnings
    assert "0.npy (more than half of it is missing: 61%)" in warning


def test_numbers_that_only_look_like_fill_values_are_values(tmp_path: Path, write: Write) -> None:
    heights = np.linspace(-9999, 8000, 512).reshape(16, 32)
    assert find_fill(heights) is None
    assert find_fill(np.where(heights < -9900, -9999, heights)) is None  # a flat floor
    assert find_fill(np.eye(16)) is None
    assert find_fill(1e15 * (1 + np.random.default_rng(0).random((16, 32)))) is None
    source = np.random.default_rng(0).random((16, 32))
    source[3, 3] = 1e6  # one bright source
    assert find_fill(source) is None
    source[:2] = 1e6
    assert find_fill(source) == 1e6
    values = maps("poles", 33, 64)
    values[:, 4, 4] = -9999
    with pytest.raises(DataError, match="fill: none if they are values"):
        load(write(values), tmp_path / "cache")
    assert load(write(values), tmp_path / "cache", fill="none").warnings == ()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"grid": "healpix"}, "'gauss-legendre', 'cells', 'poles', 'driscoll-healy' or 'mcewen-wi"),
        ({"flip": "longitude"}, "'latitude'"),
        ({"fill": "missing"}, "must be a finite number, nan or none"),
        ({"fill": math.inf}, "must be a finite number, nan or none"),
    ],
)
def test_what_files_cannot_be_is_said(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SphereOptions.model_validate(wrong)


def test_plans_from_before_there_were_grids_are_read_and_built_in_maps_stay_where_they_are(
    tmp_path: Path,
) -> None:
    """A plan holds what was said of its data set; resuming validates it again, strictly."""
    old = (
        '{"name": "sphere", "image_size": 8, "view": "whole", "scale": 0.5, "color": "gray", '
        '"augment": [], "test_share": 0.2, "max_patches_per_image": null, "synthetic": {"fingers": '
        '40, "impressions": 4, "seed": 0}, "sphere": {"field": "gaussian", "spectral_index": 3.0, '
        '"count": 6, "seed": 0}}'
    )
    options = DatasetOptions.model_validate_json(old, strict=True)
    assert DatasetOptions.model_validate_json(options.model_dump_json(), strict=True) == options
    assert options.model_dump(mode="json") == json.loads(old)  # hence its trials' names
    found = load_dataset(options, None, tmp_path)
    assert found.content_hash == "01e14cf6e8bd841622313e01b070f159"
    (entry,) = (path.name for path in tmp_path.iterdir() if not path.name.startswith("."))
    assert entry == "sphere-gaussian-a2759e77895e0948ba6ac3b8"
    for said in ({"grid": "poles", "flip": "latitude", "fill": -9999}, {"fill": "nan"}):
        chosen = {**options.model_dump(), "sphere": {**options.sphere.model_dump(), **said}}
        kept = DatasetOptions.model_validate(chosen)
        assert DatasetOptions.model_validate_json(kept.model_dump_json(), strict=True) == kept
