"""Named data sets: from a folder, or from the built-in generator, to fixed uint8 tensors.

`load_dataset` is the one entry point. To add a data set, name it in `options.DatasetName` and
describe it in `_DATASETS`.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kod_bench.data import cache, files, fingerprints, splits, synthetic_fingerprints, views
from kod_bench.data.errors import DataError
from kod_bench.data.files import SkippedImageError, SourceFile
from kod_bench.data.options import DatasetName, DatasetOptions, SyntheticOptions
from kod_bench.data.views import GrayImage, GrayImages, PixelArray

if TYPE_CHECKING:  # options are validated, and help is printed, without waiting for torch
    import torch

Progress = Callable[[str], None]

# Raise with every change that may alter a prepared pixel, so that no cache outlives its code.
PREPARATION_VERSION = 1
_MAX_WORKERS = 16
_NAMED_IN_WARNING = 3


@dataclass(frozen=True)
class ImageDataset:
    """A prepared data set.

    Attributes:
        name: What the images are; synthetic ones say so. It goes into every row of results.
        train: (N, C, H, W), uint8, memory-mapped copy-on-write. In an order in which any prefix is
            a fair sample.
        test: Likewise; shares no group (finger) and no image with `train`.
        content_hash: Hash of the pixels and the split.
        description: One line: counts, view, scale, split.
        warnings: What was left out, and why.
    """

    name: str
    train: torch.Tensor
    test: torch.Tensor
    content_hash: str
    description: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _DatasetSpec:
    """What distinguishes one data set from another.

    Attributes:
        group_noun: What a group of images is, in the plural.
        group_keys: (names, pixel hashes) of the images => a key each, equal within a group.
        draw: (options, i) => names and pixels of the i-th group of synthetic images.
        count: How many groups of synthetic images the options ask for.
    """

    group_noun: str
    group_keys: Callable[[Sequence[str], Sequence[str]], list[str]]
    draw: Callable[[SyntheticOptions, int], Iterable[tuple[str, GrayImage]]]
    count: Callable[[SyntheticOptions], int]


_DATASETS: dict[DatasetName, _DatasetSpec] = {
    "fingerprints": _DatasetSpec(
        group_noun="fingers",
        group_keys=fingerprints.finger_keys,
        draw=lambda options, finger: synthetic_fingerprints.draw_prints(
            options.seed, finger, options.impressions
        ),
        count=lambda options: options.fingers,
    ),
}


@dataclass(frozen=True)
class _View:
    """What became of one source image.

    Attributes:
        name: Of the source image.
        digest: Hash of its pixels; empty if it could not be decoded.
        images: (N, H, W); None if it was skipped.
        reason: Why it was skipped.
    """

    name: str
    digest: str = ""
    images: GrayImages | None = None
    reason: str = ""


class _Source(Protocol):
    """Where images come from. Units are independent of each other and read by several threads."""

    name: str  # of the resulting data set
    title: str  # in messages
    units: int
    notes: tuple[str, ...]  # warnings that arose before any unit was read

    def identity(self) -> dict[str, object]: ...
    def read(self, unit: int) -> Iterable[_View]: ...


class _FolderSource:
    """The image files below a folder; one unit each."""

    def __init__(self, options: DatasetOptions, folder: Path, title: str) -> None:
        self._options = options
        self._folder = folder
        self.name: str = options.name
        self.title = title
        names, unreadable = files.find_images(folder, title)
        with _workers() as pool:
            self._files: list[SourceFile] = list(
                pool.map(lambda name: files.fingerprint_file(folder, name), names)
            )
        self.units = len(names)
        self.notes = _note("skipped", "unreadable folder", [files.printable(n) for n in unreadable])

    def identity(self) -> dict[str, object]:
        # Not the path: a folder that was moved or copied is the same data.
        return {"files": [[file.name, file.size, file.digest] for file in self._files]}

    def read(self, unit: int) -> Iterable[_View]:
        name = self._files[unit].name
        try:
            pixels = files.decode_gray(self._folder / name)
        except SkippedImageError as error:
            return [_View(name, reason=str(error))]
        return [_view(name, pixels, self._options)]


class _SyntheticSource:
    """The built-in generator; one unit per group (finger)."""

    def __init__(self, options: DatasetOptions) -> None:
        self._options = options
        self._spec = _DATASETS[options.name]
        self.name = f"{options.name}-synthetic"
        self.title = f"synthetic {options.name}"
        self.units = self._spec.count(options.synthetic)
        self.notes: tuple[str, ...] = ()

    def identity(self) -> dict[str, object]:
        return {"synthetic": self._options.synthetic.model_dump()}

    def read(self, unit: int) -> Iterable[_View]:
        drawn = self._spec.draw(self._options.synthetic, unit)
        return [_view(name, pixels, self._options) for name, pixels in drawn]


def load_dataset(
    options: DatasetOptions,
    data_dir: Path | None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> ImageDataset:
    """Prepares a data set, or opens it from the cache.

    Real images are read from `data_dir`. Without it the built-in generator draws synthetic ones,
    and the name of the data set says so. The environment is not looked at here: what a sweep was
    planned on must not change with the shell it is resumed from.

    Args:
        options: Which images, and how to prepare them.
        data_dir: Folder of real images, searched with its subfolders.
        cache_dir: Folder for prepared images; by default $KOD_BENCH_CACHE, else the user's cache.
        progress: Receives one line of text now and then.

    Returns:
        The data set; the same pixels in the same order for the same images and options.

    Raises:
        DataError: No usable images, too few of them, or a cache that cannot be written.
    """
    report = progress or _ignore
    source = _open_source(options, data_dir)
    cache_dir = cache.default_cache_dir() if cache_dir is None else Path(cache_dir)
    entry = cache_dir / _cache_key(options, source)

    found = cache.read_entry(entry)
    if found is None:
        with cache.staging_folder(cache_dir) as staging:
            cache.publish(staging, entry, _prepare(options, source, report))
        found = cache.read_entry(entry)
        if found is None:
            raise DataError(f"the cache entry {entry} was damaged as soon as written; retry")
    else:
        report(f"{source.title}: prepared before, in {entry}")
    return _to_dataset(*found)


def default_data_dir() -> Path | None:
    """The folder of images that the user named in $KOD_BENCH_DATA, if any."""
    named = os.environ.get("KOD_BENCH_DATA")
    return Path(named).expanduser() if named else None


def _ignore(line: str) -> None:
    """The progress of someone who does not want to know."""


def _open_source(options: DatasetOptions, data_dir: Path | None) -> _Source:
    if data_dir is None:
        return _SyntheticSource(options)
    return _FolderSource(options, Path(data_dir), f"data folder {data_dir}")


def _cache_key(options: DatasetOptions, source: _Source) -> str:
    """Hash of all that a prepared array depends on, and of nothing else."""
    relevant = options.model_dump(exclude={"synthetic"})
    if options.view == "whole":
        del relevant["scale"], relevant["max_patches_per_image"]
    identity = {"version": PREPARATION_VERSION, "options": relevant, **source.identity()}
    digest = splits.hash_text(json.dumps(identity, sort_keys=True))
    return f"{source.name}-{digest[:24]}"


def _to_dataset(images: cache.PreparedImages, content_hash: str) -> ImageDataset:
    import torch

    return ImageDataset(
        name=images.name,
        train=torch.from_numpy(images.train),
        test=torch.from_numpy(images.test),
        content_hash=content_hash,
        description=images.description,
        warnings=images.warnings,
    )


def _prepare(options: DatasetOptions, source: _Source, report: Progress) -> cache.PreparedImages:
    """Reads every image, drops what cannot be used, splits by group and stacks the views."""
    spec = _DATASETS[options.name]
    with warnings.catch_warnings():
        # What Pillow remarks about a file is either fatal, and then it raises, or no concern of a
        # user with ten thousand of them. Filters belong to the process: not set in each thread.
        warnings.simplefilter("ignore")
        every = list(_read_all(source, report))

    decoded = [view for view in every if view.digest]
    kept: dict[str, GrayImages] = {}
    copies: list[str] = []
    for view in decoded:
        if view.images is None:
            continue
        if view.digest in kept:
            copies.append(files.printable(view.name))
        kept.setdefault(view.digest, view.images)
    skipped = [f"{files.printable(view.name)} ({view.reason})" for view in every if view.reason]
    notes = (
        *source.notes,
        *_note("skipped", "unusable image", skipped),
        *_note("dropped", "exact duplicate", copies),
    )
    if not kept:
        raise DataError(f"{source.title} holds no usable image: {'; '.join(notes)}")

    # Copies still speak for their groups: who shares an image with another is the same finger.
    keys = spec.group_keys([view.name for view in decoded], [view.digest for view in decoded])
    members = splits.connected_groups(
        [(("key", key), ("pixels", view.digest)) for key, view in zip(keys, decoded, strict=True)]
    )
    groups = [sorted({decoded[i].digest for i in group} & kept.keys()) for group in members]
    groups = [group for group in groups if group]
    try:
        train_groups, test_groups = splits.split_groups(groups, options.test_share)
    except DataError as error:
        reasons = f" ({'; '.join(notes)})" if notes else ""
        raise DataError(f"{source.title}: {error}, in {len(kept)} images{reasons}") from None

    train, test = (
        _stack({digest: kept[digest] for i in side for digest in groups[i]}, options)
        for side in (train_groups, test_groups)
    )
    size = options.image_size
    what = "whole images" if options.view == "whole" else f"patches at scale {options.scale:g}"
    description = (
        f"{len(train)} training and {len(test)} test {size}x{size} {what}, from {len(kept)} images;"
        f" {len(train_groups)} and {len(test_groups)} {spec.group_noun};"
        f" {len(skipped)} images skipped, {len(copies)} duplicates dropped"
    )
    report(f"{source.title}: {description}")
    return cache.PreparedImages(train, test, source.name, description, notes)


def _view(name: str, pixels: GrayImage, options: DatasetOptions) -> _View:
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    try:
        return _View(name, digest, views.make_view(pixels, options))
    except SkippedImageError as error:
        return _View(name, digest, reason=str(error))


def _read_all(source: _Source, report: Progress) -> Iterator[_View]:
    """The views of all units in order, computed side by side, with a line now and then."""
    # Threads, not processes: Pillow and SciPy release the interpreter's lock for nearly all of the
    # work, and threads need no importable __main__ and run inside a Ray worker, too.
    step = max(1, source.units // 10)
    with _workers() as pool:
        try:
            for done, batch in enumerate(pool.map(source.read, range(source.units)), start=1):
                yield from batch
                if done % step == 0 or done == source.units:
                    report(f"{source.title}: {done} of {source.units} done")
        finally:  # after an interrupt, do not first finish what is queued
            pool.shutdown(cancel_futures=True)


def _workers() -> ThreadPoolExecutor:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ThreadPoolExecutor(min(_MAX_WORKERS, available or 1))


def _stack(kept: Mapping[str, GrayImages], options: DatasetOptions) -> PixelArray:
    """Images by the hash of their source => (N, 1, H, W), scrambled in a way the content fixes."""
    limit = options.max_patches_per_image if options.view == "patches" else None
    ranked: list[tuple[str, GrayImage]] = []
    for digest, images in kept.items():
        own = sorted((splits.hash_text(f"{digest}:{i}"), i) for i in range(len(images)))
        ranked.extend((rank, images[i]) for rank, i in own[:limit])
    ranked.sort(key=lambda pair: pair[0])
    return np.stack([image for _, image in ranked])[:, None]


def _note(verb: str, noun: str, names: Sequence[str]) -> tuple[str, ...]:
    """One warning that counts, and names the first few; none where there is nothing to count."""
    if not names:
        return ()
    shown = ", ".join(names[:_NAMED_IN_WARNING])
    more = f" and {len(names) - _NAMED_IN_WARNING} more" if len(names) > _NAMED_IN_WARNING else ""
    return (f"{verb} {len(names)} {noun}{'s' if len(names) > 1 else ''}: {shown}{more}",)
