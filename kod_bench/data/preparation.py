"""From a source of images to the arrays of a data set: decoded, viewed, deduplicated, divided."""

import hashlib
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kod_bench.data import files, splits, views, workers
from kod_bench.data.cache import Details, PreparedImages
from kod_bench.data.depths import Span, depth_notes
from kod_bench.data.errors import DataError
from kod_bench.data.files import SkippedImageError
from kod_bench.data.grouping import group_images
from kod_bench.data.notes import counted_note, remark_notes
from kod_bench.data.options import DatasetOptions
from kod_bench.data.registry import find_spec
from kod_bench.data.spec import Source, reading_of
from kod_bench.data.views import PixelArray, Views

Progress = Callable[[str], None]
OnUnit = Callable[[int, int], None]

# Raise with every change that may alter a prepared pixel or its side, so that no cache outlives its
# code.
PREPARATION_VERSION = 3


@dataclass(frozen=True)
class _View:
    """What became of one source image.

    Attributes:
        name: Of the source image.
        digest: Hash of its pixels; empty if it could not be decoded.
        images: Its view; None if it was skipped.
        reason: Why it was skipped.
        remarks: What a user should know about how it was read.
        span: Of its values, where they were not 8-bit.
    """

    name: str
    digest: str = ""
    images: Views | None = None
    reason: str = ""
    remarks: tuple[str, ...] = ()
    span: Span | None = None


@dataclass(frozen=True)
class _Reader:
    """Reads and views the images of a unit. Pickled for the worker processes."""

    source: Source
    options: DatasetOptions

    def __call__(self, unit: int) -> list[_View]:
        subject = find_spec(self.options.name).subject
        found = []
        for image in self.source.read(unit):
            pixels = image.pixels
            if pixels is None:
                found.append(_View(image.name, reason=image.reason))
                continue
            content = repr(pixels.shape).encode() + pixels.tobytes()
            digest = hashlib.sha256(content).hexdigest()
            try:
                images = views.make_view(pixels, self.options, subject)
            except SkippedImageError as error:
                found.append(_View(image.name, digest, reason=str(error), span=image.span))
            else:
                found.append(
                    _View(image.name, digest, images, remarks=image.remarks, span=image.span)
                )
        return found


@dataclass(frozen=True)
class _Division:
    """Which images, by the hash of their pixels, are on which side, and why."""

    train: Sequence[str]
    test: Sequence[str]
    groups: tuple[int, int]
    noun: str
    rule: str
    notes: tuple[str, ...] = ()


def prepare(
    options: DatasetOptions, source: Source, work: Path, report: Progress, on_unit: OnUnit
) -> PreparedImages:
    """Reads every image, drops what cannot be used, divides the rest and stacks the views.

    Args:
        options: Which images, and how to prepare them.
        source: Where they come from.
        work: An empty folder for what has to be unpacked.
        report: Receives one line of text now and then.
        on_unit: Receives how many units are done, and of how many.

    Raises:
        DataError: No usable images, or too few of them to divide.
    """
    began = time.monotonic()
    spec = find_spec(options.name)
    source.unpack(work)
    with warnings.catch_warnings():
        # What Pillow remarks about a file is either fatal, and then it raises, or no concern of a
        # user with ten thousand of them. Filters belong to the process: not set in each thread.
        warnings.simplefilter("ignore")
        every = list(_read_all(options, source, report, on_unit))

    names = [view.name for view in every]
    sides = splits.given_sides(names)
    if sides is None and spec.needs_division:
        raise DataError(f"{source.title}: {options.name} needs {spec.layout}")
    outside = []
    if sides is not None:
        outside = [view.name for view, side in zip(every, sides, strict=True) if not side]
        every, names, sides = _select(every, sides)

    # The first of equal images is kept; in a given division, the one that is for testing.
    usable = {i: view.images for i, view in enumerate(every) if view.images is not None}
    first: dict[str, int] = {}
    for i in sorted(usable, key=lambda i: (sides is not None and sides[i] != "test", i)):
        first.setdefault(every[i].digest, i)
    kept = {digest: usable[i] for digest, i in first.items()}
    copies = [files.printable(every[i].name) for i in usable if first[every[i].digest] != i]
    skipped = [view for view in every if view.reason]
    remarks = Counter(remark for view in every for remark in view.remarks)
    notes = (
        *source.notes,
        *(splits.stray_sides(names) if sides is None else ()),
        *counted_note("skipped", "image outside train and test", [*map(files.printable, outside)]),
        *counted_note(
            "skipped",
            "unusable image",
            [f"{files.printable(view.name)} ({view.reason})" for view in skipped],
        ),
        *counted_note("dropped", "exact duplicate", copies),
        *remark_notes(remarks),
        *depth_notes([view.span for view in every if view.span], options.known_range),
    )
    if not kept:
        raise DataError(f"{source.title} holds no usable image: {'; '.join(notes)}")

    try:
        if sides is None:
            division = _divide_by_hash(options, every, kept)
        else:
            side_of = {digest: sides[i] for digest, i in first.items()}
            division = _divide_as_given(options, every, sides, side_of, source)
    except DataError as error:
        reasons = f" ({'; '.join(notes)})" if notes else ""
        raise DataError(f"{source.title}: {error}, in {len(kept)} images{reasons}") from None

    notes += division.notes
    labels = dict(zip(names, splits.class_labels(names), strict=True))
    label_of = {digest: labels[every[i].name] for digest, i in first.items()}
    if spec.subject == "print":
        label_of = dict.fromkeys(label_of, "")
    test, test_from = _stack({digest: kept[digest] for digest in division.test}, options)
    train, train_from = _stack({digest: kept[digest] for digest in division.train}, options)
    train, train_from, repeated = _without(train, train_from, test)
    if repeated:
        notes += (f"dropped {repeated} training images that are equal to test images",)
    if not len(train):
        raise DataError(f"{source.title}: every training image is equal to a test image")

    groups = (*division.groups, division.noun)
    description = _describe(options, len(train), len(test), len(kept), division)
    description += f" {len(skipped)} images skipped, {len(copies)} duplicates dropped"
    if reading := reading_of(source):
        description += f"; {reading}"
    report(f"{source.title}: {description}")
    details = Details(
        split=division.rule,
        images=len(kept),
        groups=groups,
        skipped=dict(Counter(files.reason_kind(view.reason) for view in skipped).most_common()),
        duplicates=len(copies),
        classes=_count_classes(label_of, train_from, test_from),
        seconds=round(time.monotonic() - began, 3),
    )
    return PreparedImages(train, test, source.name, description, notes, details)


def _select(every: list[_View], sides: list[str]) -> tuple[list[_View], list[str], list[str]]:
    """Only those on one of the sides."""
    inside = [i for i, side in enumerate(sides) if side]
    return [every[i] for i in inside], [every[i].name for i in inside], [sides[i] for i in inside]


def _divide_by_hash(
    options: DatasetOptions, every: Sequence[_View], kept: Mapping[str, Views]
) -> _Division:
    # Copies still speak for their groups: who shares an image with another is the same finger.
    spec = find_spec(options.name)
    decoded = [view for view in every if view.digest]
    names, digests = [view.name for view in decoded], [view.digest for view in decoded]
    grouping = group_images(options, spec, names, digests, kept)
    members = splits.connected_groups(
        [
            (("pixels", view.digest), *(("label", label) for label in labels))
            for labels, view in zip(grouping.labels, decoded, strict=True)
        ]
    )
    groups = [sorted({decoded[i].digest for i in group} & kept.keys()) for group in members]
    groups = [group for group in groups if group]
    train, test = splits.split_groups(groups, options.test_share)
    return _Division(
        [digest for i in train for digest in groups[i]],
        [digest for i in test for digest in groups[i]],
        (len(train), len(test)),
        grouping.noun,
        f"by content hash, {grouping.rule}; {options.test_share:.0%} of them, rounded up, "
        "are for testing",
        grouping.notes,
    )


def _divide_as_given(
    options: DatasetOptions,
    every: Sequence[_View],
    sides: Sequence[str],
    side_of: Mapping[str, str],
    source: Source,
) -> _Division:
    train, test = (
        [digest for digest, side in side_of.items() if side == wanted]
        for wanted in ("train", "test")
    )
    if not train or not test:
        missing = "test" if train else "train"
        raise DataError(f"no usable image on the side '{missing}'")
    spec = find_spec(options.name)
    # What a source divides by itself has names of its own, which follow no scheme.
    is_users = not source.split_rule
    notes: tuple[str, ...] = ()
    if options.group is not None or is_users:
        decoded = [i for i, view in enumerate(every) if view.digest]
        names, digests = zip(*((every[i].name, every[i].digest) for i in decoded), strict=True)
        grouping = group_images(options, spec, names, digests, side_of)
        notes = grouping.shared([sides[i] for i in decoded])
        if options.group is not None:
            notes += grouping.notes
    return _Division(
        train,
        test,
        (len(train), len(test)),
        "images" if is_users and spec.group_labels is not None else spec.group_noun,
        source.split_rule or "as given by the folders train and test",
        notes,
    )


def _describe(
    options: DatasetOptions, train: int, test: int, images: int, division: _Division
) -> str:
    scales = ", ".join(f"{scale:g}" for scale in options.scales)
    plural = "s" if len(options.scales) > 1 else ""
    what = "whole images" if options.view == "whole" else f"patches at scale{plural} {scales}"
    if options.values == "angles":
        what = "whole fields" if options.view == "whole" else what
    of = "angles," if options.values == "angles" else options.color
    height, width = options.image_shape
    reading = (
        ""
        if options.known_range is None
        else " of values from {:g} to {:g}".format(*options.known_range)
    )
    return (
        f"{train} training and {test} test {width}x{height} {of} {what}{reading}, "
        f"from {images} images;"
        f" {division.groups[0]} and {division.groups[1]} {division.noun};"
    )


def _read_all(
    options: DatasetOptions, source: Source, report: Progress, on_unit: OnUnit
) -> Iterator[_View]:
    """The views of all units in order, computed side by side, with a line now and then."""
    step = max(1, source.units // 10)
    on_unit(0, source.units)
    read = _Reader(source, options)
    batches = workers.map_units(
        read,
        source.units,
        lambda unit: [_View(f"image {unit}", reason="its decoder crashed")],
        parallel=source.parallel,
    )
    for done, batch in enumerate(batches, start=1):
        yield from batch
        on_unit(done, source.units)
        if done % step == 0 or done == source.units:
            report(f"{source.title}: {done} of {source.units} done")


def _stack(kept: Mapping[str, Views], options: DatasetOptions) -> tuple[PixelArray, list[str]]:
    """Images by the hash of their source => (N, C, H, W), scrambled in a way the content fixes.

    Returns:
        The array, and the hash of the source of each image in it.
    """
    limit = options.max_patches_per_image if options.view == "patches" else None
    ranked: list[tuple[str, str, int]] = []
    for digest, images in kept.items():
        own = sorted((splits.hash_text(f"{digest}:{i}"), i) for i in range(len(images)))
        ranked.extend((rank, digest, i) for rank, i in own[:limit])
    ranked.sort()
    stacked = np.stack([kept[digest][i] for _, digest, i in ranked])
    stacked = stacked[:, None] if stacked.ndim == 3 else np.moveaxis(stacked, 3, 1)
    return np.ascontiguousarray(stacked), [digest for _, digest, _ in ranked]


def _without(
    images: PixelArray, origins: list[str], unwanted: PixelArray
) -> tuple[PixelArray, list[str], int]:
    """Drops images that are equal, pixel for pixel, to unwanted ones; says how many."""
    hashes = {hashlib.sha256(image.tobytes()).digest() for image in unwanted}
    fresh = [hashlib.sha256(image.tobytes()).digest() not in hashes for image in images]
    if all(fresh):
        return images, origins, 0
    return (
        images[np.array(fresh)],
        [origin for origin, is_fresh in zip(origins, fresh, strict=True) if is_fresh],
        fresh.count(False),
    )


def _count_classes(
    label_of: Mapping[str, str], train_from: Sequence[str], test_from: Sequence[str]
) -> dict[str, tuple[int, int]]:
    train, test = (Counter(label_of[digest] for digest in side) for side in (train_from, test_from))
    return {name: (train[name], test[name]) for name in sorted(train | test) if name}
