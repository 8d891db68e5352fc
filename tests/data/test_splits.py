import math

import pytest

from kod_bench.data import DataError
from kod_bench.data.splits import (
    class_labels,
    connected_groups,
    given_sides,
    split_groups,
    stray_sides,
)

GROUPS = [[f"{group}-{image}" for image in range(3)] for group in range(30)]


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


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["1.png", "cat/2.png"], ""),
        (["train.png", "testing/2.png"], ""),
        (["train/1.png"], "folders named train do not"),
        (["cat/train/1.png", "dog/TEST/1.png"], "folders named train and test do not"),
    ],
)
def test_folders_that_do_not_divide_are_named(names: list[str], said: str) -> None:
    found = "".join(stray_sides(names))
    assert found.startswith(said)
    assert bool(found) == bool(said)
