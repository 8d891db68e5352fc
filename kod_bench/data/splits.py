"""Fixed train/test splits that depend on what the images show, and on nothing else.

Paths, file names' order and time stamps do not enter: two laboratories with the same images in
different folders get the same split.
"""

import hashlib
import math
from collections.abc import Hashable, Sequence

from kod_bench.data.errors import DataError


def connected_groups(labels: Sequence[Sequence[Hashable]]) -> list[list[int]]:
    """Groups items that share a label, directly or through others.

    Args:
        labels: The labels of each item, for example its finger and its pixel hash.

    Returns:
        Indices of the items of each group; groups in the order of their first item.
    """
    parent = list(range(len(labels)))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]  # halve the path for the next search
            item = parent[item]
        return item

    first_with: dict[Hashable, int] = {}
    for item, own in enumerate(labels):
        for label in own:
            parent[root(item)] = root(first_with.setdefault(label, item))
    groups: dict[int, list[int]] = {}
    for item in range(len(labels)):
        groups.setdefault(root(item), []).append(item)
    return list(groups.values())


def split_groups(groups: Sequence[Sequence[str]], test_share: float) -> tuple[list[int], list[int]]:
    """Divides groups of images into training and test set.

    Groups are ranked by the hash of their images' sorted hashes, which is as good as a fair draw;
    the first ceil(test_share * groups) are for testing, and at least one is left for training.

    Args:
        groups: Content hashes of the images of each group.
        test_share: Share of the groups to hold out.

    Returns:
        Indices of the training groups and of the test groups.

    Raises:
        DataError: There are fewer than two groups.
    """
    if len(groups) < 2:
        raise DataError(f"a split needs at least 2 groups of images, found {len(groups)}")
    ranked = sorted(range(len(groups)), key=lambda i: hash_text("\n".join(sorted(groups[i]))))
    wanted = held_out_count(test_share, len(groups))
    held_out = min(wanted, len(groups) - 1)
    return sorted(ranked[held_out:]), sorted(ranked[:held_out])


def hash_text(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def given_sides(names: Sequence[str]) -> list[str] | None:
    """The split that folders `train` and `test` make, at the top or below folders all have.

    Args:
        names: Paths below the data folder, with "/".

    Returns:
        "train", "test" or "" (in neither) for each name; None unless both folders are there.
    """
    sides = [parts[0].lower() if len(parts) > 1 else "" for parts in _without_wrapping(names)]
    if not {"train", "test"} <= set(sides):
        return None
    return [side if side in ("train", "test") else "" for side in sides]


def stray_sides(names: Sequence[str]) -> tuple[str, ...]:
    """A warning of folders `train` and `test` that are no division; none without such.

    Args:
        names: Paths below the data folder, with "/".
    """
    found = {part.lower() for name in names for part in name.split("/")[:-1]} & {"train", "test"}
    if not found:
        return ()
    which = " and ".join(sorted(found, reverse=True))
    return (
        f"folders named {which} do not divide these images: train and test do where both stand at "
        "the top, or below folders that all images share; the split is by content hash",
    )


def class_labels(names: Sequence[str]) -> list[str]:
    """The class of each image: its topmost folder, below `train` and `test` where they are.

    Returns:
        A label each, "" where there is none; all "" where there are fewer than two classes.
    """
    labels = []
    for parts in _without_wrapping(names):
        folders = parts[:-1]
        if folders and folders[0].lower() in ("train", "test"):
            folders = folders[1:]
        labels.append(folders[0] if folders else "")
    return labels if len(set(labels) - {""}) > 1 else [""] * len(names)


def _without_wrapping(names: Sequence[str]) -> list[list[str]]:
    """Path components, without leading folders that all have: an archive often adds one."""
    every = [name.split("/") for name in names]
    while every and all(
        len(parts) > 1 and parts[0] == every[0][0] and parts[0].lower() not in ("train", "test")
        for parts in every
    ):
        every = [parts[1:] for parts in every]
    return every


def held_out_count(test_share: float, count: int) -> int:
    """How many of so many are for testing: ceil(test_share * count)."""
    # Rounded first: 0.1 * 30 is 3.0000000000000004, and its ceiling is not what was asked for.
    return math.ceil(round(test_share * count, 9))
