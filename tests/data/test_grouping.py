"""Which images share a side of the split: by their names, by `group`, by the user's folders."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from kod_bench.data import DataError, DatasetOptions, ImageDataset, load_dataset
from kod_bench.data.views import make_view

SD4 = [f"{side}{finger:04}_{finger:02}.png" for finger in range(1, 7) for side in "fs"]
CASIA = [f"00{p}_{h}_{i}.png" for p in (0, 1) for h in ("L0", "R1") for i in range(3)]
KTH = [
    f"{m}/sample_{s}/{n}{s}-scale_{k}_im_1_col.png"
    for m, n in (("cork", 42), ("wool", 22))
    for s in "ab"
    for k in (2, 5)
]


@pytest.fixture
def prepare(prints: Callable[..., Path], tmp_path: Path) -> Callable[..., ImageDataset]:
    """(names, name=, **options) => the data set of images so named."""

    def load(*names: str, name: str = "fingerprints", **options: object) -> ImageDataset:
        shutil.rmtree(tmp_path / "prints", ignore_errors=True)
        root = prints(*names)
        wanted = name.replace("HERE", str(root))
        given = {"name": wanted, "image_size": 16, "view": "whole", **options}
        folder = None if wanted.startswith("folder:") else root
        return load_dataset(DatasetOptions.model_validate(given), folder, tmp_path / "cache")

    return load


def sides(dataset: ImageDataset, root: Path, names: list[str]) -> dict[str, str]:
    """The side of each image of the folder, by its prepared pixels."""
    train = {image.numpy().tobytes() for image in dataset.train}
    test = {image.numpy().tobytes() for image in dataset.test}
    assert not train & test
    found = {}
    options = DatasetOptions(name="fingerprints", image_size=16, view="whole")
    for name in names:
        view = make_view(np.asarray(Image.open(root / name)), options, "print").tobytes()
        assert (view in train) != (view in test)
        found[name] = "train" if view in train else "test"
    return found


@pytest.mark.parametrize(
    ("names", "finger"),
    [
        (SD4, r"\d{4}"),
        (CASIA, r"\d{3}_[LR]\d"),
        ([f"db1_{f}_{i}.png" for f in (7, 8, 9) for i in (1, 2)], r"_\d_"),
    ],
    ids=["sd4", "casia", "prefixed"],
)
def test_no_finger_of_a_named_scheme_is_on_both_sides(
    prepare: Callable[..., ImageDataset], tmp_path: Path, names: list[str], finger: str
) -> None:
    dataset = prepare(*names)
    assert dataset.details.groups[2] == "fingers"
    assert dataset.warnings == ()
    found = sides(dataset, tmp_path / "prints", names)
    of_finger: dict[str, set[str]] = {}
    for name, side in found.items():
        of_finger.setdefault(re.search(finger, name)[0], set()).add(side)  # type: ignore[index]
    assert len(of_finger) == sum(dataset.details.groups[:2])
    assert all(len(each) == 1 for each in of_finger.values())


def test_textures_of_one_surface_stay_together(prepare: Callable[..., ImageDataset]) -> None:
    dataset = prepare(*KTH, name="textures")
    assert dataset.details.groups == (3, 1, "textures")
    coloured = prepare("D1.png", "D1_COLORED.png", "D2.png", "D2_COLORED.png", name="textures")
    assert coloured.details.groups == (1, 1, "textures")


def test_where_no_name_tells_it_is_said(prepare: Callable[..., ImageDataset]) -> None:
    dataset = prepare("a.png", "b.png", "c.png", "d.png")
    assert dataset.details.groups == (3, 1, "images")
    assert "whole fingers" not in dataset.details.split
    (warning,) = dataset.warnings
    assert warning.startswith(
        "the names of 4 of 4 images do not say which fingers they show (a.png, b.png, c.png and 1 "
        "more): each counts for itself"
    )
    assert "group: REGEX" in warning


def test_where_some_names_tell_the_others_are_counted(
    prepare: Callable[..., ImageDataset],
) -> None:
    dataset = prepare("1_1.png", "1_2.png", "2_1.png", "other.png")
    assert dataset.details.groups == (2, 1, "fingers")
    assert "names of 1 of 4 images do not say" in dataset.warnings[0]


@pytest.mark.parametrize("name", ["fingerprints", "textures", "terrain", "folder:HERE"])
def test_a_users_expression_groups_any_data_set(
    prepare: Callable[..., ImageDataset], name: str
) -> None:
    names = [f"p{person}-{i}.png" for person in range(4) for i in range(3)]
    dataset = prepare(*names, name=name, group=r"p(\d+)-")
    assert dataset.details.groups == (3, 1, "groups")
    assert (len(dataset.train), len(dataset.test)) == (9, 3)
    assert dataset.warnings == ()
    assert r"whole groups by 'p(\\d+)-'" in dataset.details.split


def test_an_expression_goes_before_the_names(prepare: Callable[..., ImageDataset]) -> None:
    names = [f"{finger}_{i}.png" for finger in (11, 12, 21, 22) for i in (1, 2)]
    assert prepare(*names).details.groups[:2] == (3, 1)
    assert prepare(*names, group=r"^(\d)").details.groups[:2] == (1, 1)  # people


def test_groups_of_an_expression_join(prepare: Callable[..., ImageDataset]) -> None:
    names = ["a/x1.png", "a/x2.png", "b/x1.png", "b/x2.png"]
    assert prepare(*names, group=r"(\w)/x(\d)").details.groups[:2] == (3, 1)
    assert prepare(*names, group=r"^\w/").details.groups[:2] == (1, 1)  # all that it matches
    assert prepare(*names, group=r"^(a)?").details.groups[:2] == (1, 1)


def test_names_that_an_expression_misses_are_counted(
    prepare: Callable[..., ImageDataset],
) -> None:
    dataset = prepare("p1-1.png", "p1-2.png", "q.png", "r.png", group=r"p(\d)")
    assert dataset.details.groups[:2] == (2, 1)
    assert dataset.warnings == (
        "group 'p(\\\\d)' does not match 2 of 4 names (q.png, r.png): each of them counts for "
        "itself",
    )


def test_an_expression_that_matches_nothing_is_refused(
    prepare: Callable[..., ImageDataset],
) -> None:
    with pytest.raises(DataError, match=r"group 'x' matches none of the names \(a\.png, b\.png"):
        prepare("a.png", "b.png", group="x")
    with pytest.raises(DataError, match="matches none"):
        load_dataset(DatasetOptions(name="textures", image_size=16, group="x"), None)


@pytest.mark.parametrize("archived", [False, True])
def test_it_is_refused_before_anything_is_decoded(
    prints: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archived: bool
) -> None:
    root = prints()
    if archived:
        root = Path(shutil.make_archive(str(tmp_path / "prints"), "zip", root))
    monkeypatch.setattr("kod_bench.data.workers.map_units", None)
    with pytest.raises(DataError, match="group 'x' matches none of the names"):
        load_dataset(DatasetOptions(name="fingerprints", image_size=16, group="x"), root)


@pytest.mark.parametrize("wrong", ["", "(", "[a", "*"])
def test_what_is_no_expression_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError):
        DatasetOptions(name="fingerprints", image_size=16, group=wrong)


@pytest.mark.parametrize("name", ["fingerprints", "textures", "terrain", "folder:HERE"])
def test_a_users_own_folders_are_the_split(prepare: Callable[..., ImageDataset], name: str) -> None:
    names = [f"train/{i}_1.png" for i in range(3)] + [f"test/{i}_1.png" for i in range(3, 9)]
    dataset = prepare(*names, name=name)
    assert (len(dataset.train), len(dataset.test)) == (3, 6)
    assert dataset.details.split == "as given by the folders train and test"
    assert dataset.warnings == ()


def test_a_finger_on_both_sides_of_a_users_split_is_named(
    prepare: Callable[..., ImageDataset],
) -> None:
    names = ["train/101_1.png", "train/102_1.png", "test/101_2.png", "test/103_1.png"]
    dataset = prepare(*names)
    assert (len(dataset.train), len(dataset.test)) == (2, 2)
    assert dataset.warnings == (
        "1 of the fingers are on both sides of the given split (101): scores on its test images "
        "are not of new fingers",
    )
    by_hand = prepare("train/a1.png", "test/a2.png", name="terrain", group=r"(\w)\d")
    assert "1 of the groups are on both sides of the given split (a)" in by_hand.warnings[0]


def test_folders_too_deep_to_divide_are_named(prepare: Callable[..., ImageDataset]) -> None:
    dataset = prepare("x/train/1_1.png", "x/train/2_1.png", "y/test/3_1.png")
    assert "folders named train and test do not divide" in dataset.warnings[0]


def test_a_plain_folder_of_a_known_collection_is_remarked(
    prepare: Callable[..., ImageDataset],
) -> None:
    dataset = prepare(*KTH, name="folder:HERE")
    assert dataset.details.groups == (6, 2, "source images")
    assert "names look like those of KTH-TIPS" in dataset.warnings[0]
    assert prepare(*KTH, name="folder:HERE", group="sample_.").warnings == ()


#: By the code of version 0.5, before there was `group`: (data set, view, images) => hash.
_AS_EVER = [
    (
        "fingerprints",
        "fingerprints-fvc2002-db1b",
        "patches",
        32,
        "f3f437fcdc301da62220059abe184f2f",
    ),
    ("fingerprints", "fingerprints-fvc2002-db1b", "whole", 16, "5583f611654948e9b4c5fdf2207714b4"),
    ("textures", "textures-brodatz", "patches", 32, "3fc4b69af33259303322de2fb5dd14e4"),
    ("textures", "textures-brodatz", "whole", 16, "abf2d33021305f79a28f1243321451ed"),
]


@pytest.mark.parametrize(("name", "folder", "view", "size", "expected"), _AS_EVER)
def test_known_names_are_divided_as_ever(
    tmp_path: Path, fvc: Path, name: str, folder: str, view: str, size: int, expected: str
) -> None:
    options = DatasetOptions.model_validate({"name": name, "image_size": size, "view": view})
    dataset = load_dataset(options, fvc.parent / folder, tmp_path)
    assert dataset.content_hash == expected
    assert dataset.warnings == ()


def test_options_of_old_are_written_as_ever() -> None:
    options = DatasetOptions(name="fingerprints", image_size=32)
    assert not {"group", "dpi"} & options.model_dump().keys()
    chosen = DatasetOptions(name="fingerprints", image_size=32, group="x", dpi=500)
    assert chosen.model_dump(mode="json")["group"] == "x"
    assert DatasetOptions.model_validate_json(chosen.model_dump_json(), strict=True) == chosen
    ignored = DatasetOptions(name="fingerprints", image_size=32, dpi="ignore")
    assert DatasetOptions.model_validate_json(ignored.model_dump_json(), strict=True) == ignored
