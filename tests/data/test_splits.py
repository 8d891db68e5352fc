import math

import pytest

from kod_bench.data import DataError
from kod_bench.data.fingerprints import finger_keys
from kod_bench.data.splits import class_labels, connected_groups, given_sides, split_groups
from kod_bench.data.textures import texture_keys

GROUPS = [[f"{group}-{image}" for image in range(3)] for group in range(30)]


def keys(*names: str, digests: list[str] | None = None) -> list[str]:
    return finger_keys(names, digests or [str(i) for i in range(len(names))])


def test_fvc_names_give_the_finger() -> None:
    assert keys("101_1.tif", "101_8.tif", "102_1.tif") == ["101", "101", "102"]


def test_a_finger_spread_over_folders_is_one_finger() -> None:
    first, second = keys("train/101_1.tif", "test/101_2.tif")
    assert first == second


def test_fvc_databases_side_by_side_are_told_apart() -> None:
    one, two, other = keys("DB1/101_1.tif", "DB2/101_1.tif", "DB2/101_2.tif")
    assert one != two == other


def test_a_copy_of_a_database_is_not_another_database() -> None:
    one, copy = keys("DB1/101_1.tif", "backup/101_1.tif", digests=["a", "a"])
    assert one == copy


@pytest.mark.parametrize(
    "name",
    [
        "Real/1__M_Left_index_finger.BMP",
        "Altered/Altered-Easy/1__M_Left_index_finger_CR.BMP",
        "Altered/Altered-Hard/1__M_Left_index_finger_CR.BMP",
        "1__M_Left_index_finger_Obl.BMP",
        "1__M_Left_index_finger_Zcut.BMP",
    ],
)
def test_altered_socofing_prints_belong_to_their_finger(name: str) -> None:
    assert keys(name) == ["1__m_left_index_finger"]


@pytest.mark.parametrize("other", ["1__M_Right_index_finger", "2__M_Left_index_finger"])
def test_other_socofing_fingers_are_other_fingers(other: str) -> None:
    assert len(set(keys(f"{other}.BMP", "1__M_Left_index_finger.BMP"))) == 2


def test_any_other_name_is_a_finger_of_its_own() -> None:
    names = ("a/thumb.png", "b/thumb.png", "thumb_1.png", "1_2_3.png")
    assert len(set(keys(*names))) == len(names)


def test_groups_join_through_shared_labels() -> None:
    assert connected_groups([("a", 1), ("b", 2), ("c", 1), ("b", 3), ("c", 3)]) == [[0, 1, 2, 3, 4]]
    assert connected_groups([("a",), ("b",), ("a",)]) == [[0, 2], [1]]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.5])
def test_test_share_is_rounded_up(share: float) -> None:
    train, test = split_groups(GROUPS, share)
    assert len(test) == math.ceil(round(share * 30, 9))
    assert sorted(train + test) == list(range(30))


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_both_sides_get_a_group(share: float) -> None:
    train, test = split_groups(GROUPS[:2], share)
    assert len(train) == len(test) == 1


def test_split_does_not_depend_on_any_order() -> None:
    _, test = split_groups(GROUPS, 0.2)
    turned = [group[::-1] for group in GROUPS[::-1]]
    _, again = split_groups(turned, 0.2)
    assert {GROUPS[i][0] for i in test} == {turned[i][-1] for i in again}


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_groups(count: int) -> None:
    with pytest.raises(DataError, match=f"at least 2 groups of images, found {count}"):
        split_groups(GROUPS[:count], 0.2)


def test_an_equalised_texture_belongs_to_its_original() -> None:
    names = ["1.1.01.tiff", "1.2.01.tiff", "1.1.02.tiff", "other/1.2.02.png", "1.3.01.tiff"]
    one, one_equalised, two, two_equalised, other = texture_keys(names, [""] * 5)
    assert one == one_equalised != two == two_equalised
    assert other not in (one, two)


def test_brodatz_numbers_are_textures_in_any_format() -> None:
    original, normalised, other, photograph = texture_keys(
        ["original/D1.gif", "normalised/d001.tif", "D11.gif", "D1 detail.gif"], [""] * 4
    )
    assert original == normalised
    assert len({original, other, photograph}) == 3


@pytest.mark.parametrize("wrapping", ["", "data/", "a/b/"])
def test_folders_train_and_test_divide(wrapping: str) -> None:
    names = [f"{wrapping}{name}" for name in ("train/cat/1.png", "TEST/2.png", "notes/3.png")]
    assert given_sides(names) == ["train", "test", ""]


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["train/1.png"],
        ["test/1.png", "test/2.png"],
        ["train.png", "test.png"],
        ["train images/1.png", "test images/2.png"],
        ["cat/train/1.png", "dog/test/1.png"],
    ],
)
def test_no_division_without_both_folders(names: list[str]) -> None:
    assert given_sides(names) is None


def test_classes_are_the_topmost_folders() -> None:
    names = ["cat/1.png", "dog/deep/2.png", "3.png"]
    assert class_labels(names) == ["cat", "dog", ""]
    divided = ["x/train/cat/1.png", "x/train/dog/2.png", "x/test/cat/3.png", "x/test/4.png"]
    assert class_labels(divided) == ["cat", "dog", "cat", ""]
    assert class_labels(["cat/1.png", "cat/2.png"]) == ["", ""]
