"""Which images belong together, as their names or the user say, and what to warn of."""

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass

from kod_bench.data import files
from kod_bench.data.errors import DataError
from kod_bench.data.name_schemes import Labels, recognised
from kod_bench.data.notes import counted_names
from kod_bench.data.options import DatasetOptions
from kod_bench.data.spec import DatasetSpec


@dataclass(frozen=True)
class Grouping:
    """What names say of images.

    Attributes:
        labels: Of each image; images that share one belong together. None where its name says
            nothing.
        noun: What a group is, in the plural.
        rule: The same in a few words, for the split's.
        notes: Warnings.
    """

    labels: list[Labels]
    noun: str
    rule: str
    notes: tuple[str, ...] = ()

    def shared(self, sides: Sequence[str]) -> tuple[str, ...]:
        """A warning of groups that a given division has on both sides; none without such.

        Args:
            sides: "train" or "test" for each image.
        """
        on_side: dict[str, set[str]] = {"train": set(), "test": set()}
        for own, side in zip(self.labels, sides, strict=True):
            on_side[side].update(own)
        both = sorted(files.printable(label) for label in on_side["train"] & on_side["test"])
        if not both:
            return ()
        return (
            f"{len(both)} of the {self.noun} are on both sides of the given split "
            f"({counted_names(both)}): scores on its test images are not of new {self.noun}",
        )


def group_images(
    options: DatasetOptions,
    spec: DatasetSpec,
    names: Sequence[str],
    digests: Sequence[str],
    used: Container[str],
) -> Grouping:
    """Groups images by the option `group`, or else by the names of public collections.

    Args:
        options: Of the data set.
        spec: Of the data set.
        names: Paths below the data folder, with "/".
        digests: Hash of the pixels of each image.
        used: Hashes of the images that are used; warnings are of these alone.

    Raises:
        DataError: `group` matches none of the names.
    """
    if options.group is not None:
        return _by_expression(options.group, names, digests, used)
    if spec.group_labels is None:
        collection = recognised(names)
        hint = (
            f"the names look like those of {collection}, of which several images belong together, "
            f"but dataset {options.name} takes each for itself: say with group: REGEX which ones "
            "share a side of the split (docs/data.md)"
        )
        notes = () if collection is None else (hint,)
        return Grouping([()] * len(names), spec.group_noun, f"whole {spec.group_noun}", notes)
    labels = spec.group_labels(names, digests)
    silent, count = _silent(labels, names, digests, used)
    if not silent:
        return Grouping(labels, spec.group_noun, f"whole {spec.group_noun}")
    warning = (
        f"the names of {len(silent)} of {count} images do not say which {spec.group_noun} "
        f"they show ({_named(silent)}): each counts for itself, and {spec.group_noun} of several "
        "images may be on both sides of the split; say with group: REGEX which ones belong "
        "together (docs/data.md)"
    )
    if not any(labels):
        return Grouping(labels, "images", "image by image", (warning,))
    return Grouping(labels, spec.group_noun, f"whole {spec.group_noun}", (warning,))


def check_expression(options: DatasetOptions, names: Sequence[str], title: str) -> None:
    """Refuses an option `group` that matches none of the names, before any image is decoded.

    Args:
        options: Of the data set.
        names: Paths below the data folder, with "/".
        title: What to call it in messages.

    Raises:
        DataError: It matches none.
    """
    if options.group is not None and not any(re.search(options.group, name) for name in names):
        raise DataError(f"{title}: {_no_match(options.group, names)}")


def _no_match(expression: str, names: Sequence[str]) -> str:
    return f"group {expression!r} matches none of the names ({_named(names)})"


def _silent(
    labels: Sequence[Labels], names: Sequence[str], digests: Sequence[str], used: Container[str]
) -> tuple[list[str], int]:
    """Names of images that are used and of which nothing says what they show; how many are used.

    A copy of an image is what the image is, whatever its name.
    """
    told = {digest for own, digest in zip(labels, digests, strict=True) if own}
    name_of = {digest: name for name, digest in zip(names, digests, strict=True) if digest in used}
    return sorted(name for digest, name in name_of.items() if digest not in told), len(name_of)


def _by_expression(
    expression: str, names: Sequence[str], digests: Sequence[str], used: Container[str]
) -> Grouping:
    """What the expression's groups match in a name is its label; without groups, all it matches."""
    labels: list[Labels] = []
    for name in names:
        match = re.search(expression, name)
        parts = () if match is None else (match.groups(default="") or (match[0],))
        labels.append(("\n".join(parts),) if match is not None else ())
    if not any(labels):
        raise DataError(_no_match(expression, names))
    silent, count = _silent(labels, names, digests, used)
    notes: tuple[str, ...] = ()
    if silent:
        notes = (
            f"group {expression!r} does not match {len(silent)} of {count} names "
            f"({_named(silent)}): each of them counts for itself",
        )
    return Grouping(labels, "groups", f"whole groups by {expression!r}", notes)


def _named(names: Sequence[str]) -> str:
    return counted_names([files.printable(name) for name in names])
