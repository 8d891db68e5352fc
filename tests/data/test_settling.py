"""What `auto` stands for is found once, said, frozen, and the same wherever the images are."""

import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kod_bench.data import DatasetOptions, load_dataset, open_dataset, workers
from kod_bench.data import decoder as decoder_module
from kod_bench.data.settling import settled_before


def images(count: int = 6, side: int = 24) -> np.ndarray:
    generator = np.random.default_rng(7)
    return generator.integers(0, 256, (count, side, side), dtype=np.uint8)


def folder(root: Path, pixels: list[np.ndarray] | np.ndarray, suffix: str = "png") -> Path:
    root.mkdir(parents=True)
    for index, each in enumerate(pixels):
        Image.fromarray(each).save(root / f"{index}.{suffix}")
    return root


def options(root: Path, **values: object) -> DatasetOptions:
    return DatasetOptions(name=f"folder:{root}", image_size=16, **values)


def three(pixels: np.ndarray) -> np.ndarray:
    return np.stack([pixels] * 3, axis=-1)


@pytest.mark.parametrize("stored", ["gray", "RGB of grays", "16-bit gray"])
def test_a_gray_folder_has_one_channel_and_the_line_says_so(tmp_path: Path, stored: str) -> None:
    kinds = {"gray": images(), "RGB of grays": three(images())}
    pixels = kinds.get(stored, images().astype(np.uint16) * 257)
    root = folder(tmp_path / "data", pixels)
    dataset = load_dataset(options(root), None)
    assert dataset.train.shape[1:] == (1, 16, 16)
    assert dataset.options.color == "gray"
    assert "16x16 gray whole images" in dataset.description
    assert "color auto is gray: all images are gray" in dataset.description
    explicit = load_dataset(options(root, color="gray"), None)
    assert dataset.content_hash == explicit.content_hash
    assert "auto" not in explicit.description


def test_one_image_in_colour_makes_three_channels(tmp_path: Path) -> None:
    colored = three(images(1)[0])
    colored[0, 0] = 200, 10, 10
    root = folder(tmp_path / "data", [*images(), colored])
    dataset = load_dataset(options(root), None)
    assert dataset.options.color == "rgb"
    assert dataset.train.shape[1] == 3
    assert dataset.content_hash == load_dataset(options(root, color="rgb"), None).content_hash


def test_archives_and_many_images_settle_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def through_pickle(read: Callable[[int], object], units: int, _: object) -> Iterator[object]:
        return map(pickle.loads(pickle.dumps(read)), range(units))  # starting processes takes long

    monkeypatch.setattr(workers, "_map_in_processes", through_pickle)
    root = folder(tmp_path / "data", three(images(60)))
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(root.iterdir()):
            file.write(path, path.name)
    one, two = (load_dataset(options(where), None) for where in (root, archive))
    assert one.options.color == two.options.color == "gray"
    assert one.content_hash == two.content_hash


def test_it_is_found_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "data", images())
    first = open_dataset(options(root), None)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("looked again")

    monkeypatch.setattr(decoder_module, "survey", never)
    again = open_dataset(options(root), None)
    assert again.cached
    assert again.options == first.options
    assert again.images.description == first.images.description


def test_what_is_built_in_settles_without_files() -> None:
    found = load_dataset(
        DatasetOptions(name="textures", image_size=16, color="auto", max_patches_per_image=4), None
    )
    assert found.options.color == "gray"


def test_twelve_bits_in_sixteen_are_warned_of_and_scaled(tmp_path: Path) -> None:
    eight = folder(tmp_path / "eight", images())
    twelve = folder(tmp_path / "twelve", images().astype(np.uint16) << 4, "tif")
    dark = load_dataset(options(twelve), None)
    (warning,) = dark.warnings
    assert "6 images of 16 bits reach no more than 4080 (12 bits)" in warning
    assert "value_range [0, 4095] or auto" in warning
    assert int(dark.train.max()) < 20
    right = load_dataset(options(twelve, value_range=(0, 4095)), None)
    assert right.content_hash == load_dataset(options(eight), None).content_hash
    assert right.warnings == ()
    assert "of values from 0 to 4095" in right.description
    auto = load_dataset(options(twelve, value_range="auto"), None)
    assert auto.options.value_range == (0, 4080)
    assert "value_range auto is [0, 4080]" in auto.description
    assert (auto.train.float() - right.train.float()).abs().max() <= 2


def test_prints_of_twelve_bits_fail_with_the_reason(tmp_path: Path) -> None:
    ridges = (np.sin(np.indices((160, 160)).sum(0) / 3) * 100 + 128).astype(np.uint16)
    root = folder(tmp_path / "data", [ridges << 4, ridges.T[::-1] << 4], "tif")
    with pytest.raises(ValueError, match=r"no patch with enough ridges.*\(12 bits\).*\[0, 4095\]"):
        load_dataset(DatasetOptions(name="fingerprints", image_size=32), root)


def test_floats_have_a_range_or_are_skipped(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", images().astype(np.float32) / 255, "tif")
    with pytest.raises(ValueError, match="value_range"):
        load_dataset(options(root), None)
    right = load_dataset(options(root, value_range=(0, 1)), None)
    eight = load_dataset(options(folder(tmp_path / "eight", images())), None)
    assert right.content_hash == eight.content_hash


def test_eight_bits_are_not_scaled_and_that_is_said(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", images())
    plain = load_dataset(options(root), None)
    ranged = load_dataset(options(root, value_range=(0, 4095)), None)
    assert ranged.content_hash == plain.content_hash
    assert ranged.warnings == ("value_range changes nothing: all images have 8 bits",)
    auto = load_dataset(options(root, value_range="auto"), None)
    assert auto.options == plain.options
    assert "value_range auto is of no use" in auto.description


def test_what_is_not_said_is_not_in_a_plan() -> None:
    old = DatasetOptions(name="fingerprints", image_size=16).model_dump(mode="json")
    assert "value_range" not in old
    said = DatasetOptions(name="fingerprints", image_size=16, value_range=(0, 4095))
    plain = said.model_dump(mode="json")
    assert plain["value_range"] == [0, 4095]
    assert DatasetOptions.model_validate_json(json.dumps(plain), strict=True) == said


@pytest.mark.parametrize("bad", [(1, 0), (0, 0), "all", 5, (0, float("inf")), (0, 1, 2), ("0", 1)])
def test_a_bad_range_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match=r"must be auto, or two numbers \[LOW, HIGH\]"):
        DatasetOptions.model_validate_json(
            json.dumps({"name": "textures", "image_size": 16, "value_range": bad}), strict=True
        )


def test_maps_of_the_sphere_have_no_range() -> None:
    with pytest.raises(ValueError, match="maps of the sphere"):
        DatasetOptions(name="sphere", image_size=16, value_range=(0, 1))


def test_a_plan_of_before_settles_what_its_default_was(tmp_path: Path) -> None:
    now = options(tmp_path)
    assert now.color == "auto"
    before = now.model_copy(update={"color": "rgb"}).model_dump(mode="json")
    other = before | {"image_size": 32}
    settled = settled_before(now, [other, before])
    assert settled is not None
    assert settled.model_dump(mode="json") == before
    assert settled_before(now, [other]) is None
    assert settled_before(settled, []) == settled
