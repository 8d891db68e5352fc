from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kod_bench.data import DataError, DatasetOptions, ImageDataset, load_dataset


def fields(count: int = 6, side: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-np.pi, np.pi, (count, side, side))


#: One angle, a turn on or back at every second site.
TURNED = -3 + 2 * np.pi * (np.arange(256).reshape(16, 16) % 2)


def load(folder: Path, size: int = 8, **said: Any) -> ImageDataset:
    options = DatasetOptions.model_validate(
        {"name": f"angles:{folder}", "image_size": size, **said}
    )
    return load_dataset(options, None, folder.parent / "cache")


@pytest.fixture
def winds(tmp_path: Path) -> Path:
    folder = tmp_path / "winds"
    folder.mkdir()
    np.save(folder / "a.npy", fields(seed=1))
    np.save(folder / "b.npy", fields(seed=2)[0])
    return folder


def test_fields_are_wrapped_and_shrunk_on_the_circle(winds: Path) -> None:
    dataset = load(winds)
    assert (dataset.name, dataset.values) == ("angles-winds", "angles")
    assert len(dataset.train) + len(dataset.test) == 7
    assert dataset.train.shape[1:] == (1, 8, 8)
    assert "radians from" in dataset.description
    # Both files are one side each: fields of one follow on each other.
    assert sorted(map(len, (dataset.train, dataset.test))) == [1, 6]


def test_degrees_are_the_same_as_radians(tmp_path: Path) -> None:
    stored = []
    for name, factor, unit in (("r", 1.0, "radians"), ("d", 180 / np.pi, "degrees")):
        (tmp_path / name).mkdir()
        turned = np.degrees(fields()) if unit == "degrees" else fields()
        np.save(tmp_path / name / "x.npy", turned + (2 * np.pi * factor))
        stored.append(load(tmp_path / name, angles={"unit": unit}))
    both = [np.sort(each.train.numpy().ravel()) for each in stored]
    assert both[0].min() >= -np.float32(np.pi)
    if len(both[0]) == len(both[1]):
        np.testing.assert_allclose(both[0].mean(), both[1].mean(), atol=0.2)


def test_patches_are_cut_from_large_fields(winds: Path) -> None:
    assert len(load(winds, view="patches").train) > 7


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((16, 16), np.nan), "c.npy is nan at row 0, column 0"),
        (np.full((16, 16), 2.0), "c.npy is 2 everywhere: a constant"),
        (4 + TURNED, "c.npy is 1 everywhere but for whole"),
        (TURNED.astype(np.float32), "c.npy is -3 everywhere but for whole turns: a constant"),
        (np.degrees(fields())[0], "c.npy holds values from .* say angles.unit: degrees"),
        (240 + 10 * np.abs(fields()[0]) / np.pi, "holds values from 24.* angles.unit: degrees"),
        (fields()[0] * 1e4, "no angles, whatever their unit"),
        (np.where(np.arange(6) == 3, np.nan, fields().T).T, "c.npy, field 4 of 6, is nan at row 0"),
        (np.where(np.arange(6) == 0, 1, fields().T).T, "c.npy, field 1 of 6, is 1 everywhere"),
        (np.zeros((16, 16, 3)), "shape .16, 16, 3., as images in colour have"),
        (np.zeros((2, 16, 16, 3)), "shape .2, 16, 16, 3."),
        (np.zeros((16, 16), np.uint8), "holds uint8, as images have"),
        (np.zeros((16, 16), complex), "holds complex128"),
        (fields(side=12)[0], "has fields of 12x12, a.npy of 16x16; all must have one shape"),
    ],
)
def test_what_is_no_field_of_angles_is_refused_in_one_line(
    winds: Path, values: np.ndarray, message: str
) -> None:
    np.save(winds / "c.npy", values)
    with pytest.raises(DataError, match=message) as caught:
        load(winds)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [np.int16, np.float16, np.float32, np.float64])
def test_whole_turns_apart_is_a_constant_in_any_unit_and_precision(
    tmp_path: Path, number: type
) -> None:
    """And a field that differs by little is none."""
    (tmp_path / "winds").mkdir()
    places = np.arange(6 * 256).reshape(6, 16, 16)
    turns, nearly = places % 2, 30 + places % 3 + np.arange(6)[:, None, None]
    np.save(tmp_path / "winds" / "a.npy", (nearly + 360 * turns).astype(number))
    assert load(tmp_path / "winds", angles={"unit": "degrees"}).values == "angles"
    np.save(tmp_path / "winds" / "b.npy", (30 + 360 * turns).astype(number))
    with pytest.raises(DataError, match="field 1 of 6, is 30 everywhere but for whole turn"):
        load(tmp_path / "winds", angles={"unit": "degrees"})


def test_what_looks_like_intensities_is_said_once(tmp_path: Path) -> None:
    """Gray levels and parts of a turn are floats, too, and nobody can tell them for certain."""
    folder = tmp_path / "winds"
    folder.mkdir()
    for name in "abc":
        np.save(folder / f"{name}.npy", np.abs(fields(3, seed=ord(name))) / np.pi)
    for _ in range(2):  # as it is read, and from the cache
        (warning,) = load(folder).warnings
        assert warning.startswith("all values are from ")
        assert "look like intensities" in warning
        assert "radians go from -pi to pi or from 0 to 2 pi" in warning
    assert not load(folder, angles={"unit": "radians"}).warnings
    assert "degrees" in load(folder, angles={"unit": "degrees"}).warnings[0]
    np.save(folder / "d.npy", fields(1))
    assert not load(folder).warnings


def test_unwrapped_radians_are_read_where_that_is_said(winds: Path) -> None:
    np.save(winds / "c.npy", fields()[0] * 5)
    assert load(winds, angles={"unit": "radians"}).values == "angles"


def test_a_folder_of_pictures_holds_no_angles(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "pictures" / "a.png")
    with pytest.raises(DataError, match=r"holds no \.npy file"):
        load(tmp_path / "pictures")


def test_objects_are_never_unpickled(winds: Path) -> None:
    np.save(winds / "c.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="pickled Python objects"):
        load(winds)


def test_fields_smaller_than_asked_for_are_skipped_with_the_reason(winds: Path) -> None:
    with pytest.raises(DataError, match="smaller than image_size 32"):
        load(winds, size=32)
