"""Named data sets as fixed tensors: prepared once, then opened from the cache.

`load_dataset` is the one entry point for training; `open_dataset` is the same without torch.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from kod_bench.data import cache, splits
from kod_bench.data.angle_options import Values
from kod_bench.data.cache import Details, PreparedImages
from kod_bench.data.cache_folder import check_cache
from kod_bench.data.errors import DataError
from kod_bench.data.options import DATASET_NAMES, DatasetOptions
from kod_bench.data.preparation import PREPARATION_VERSION, OnUnit, Progress, prepare
from kod_bench.data.registry import find_spec, open_source, plugin_source
from kod_bench.data.remote import fetch_archive
from kod_bench.data.settling import settle
from kod_bench.data.spec import Source
from kod_bench.data.sphere_options import SphereField
from kod_bench.storage import Location, ObjectFolder, parse_location

if TYPE_CHECKING:  # options are validated, and help is printed, without waiting for torch
    import torch


@dataclass(frozen=True)
class PreparedDataset:
    """A data set as it lies in the cache.

    Attributes:
        images: The memory-mapped arrays and what is known of them.
        content_hash: Hash of the pixels and the split.
        source: Where the images came from this time.
        licence: What to know before using or passing on the images.
        cached: Whether they had been prepared before.
        options: As they were asked for, with what `auto` stands for.
    """

    images: PreparedImages
    content_hash: str
    source: str
    licence: str
    cached: bool
    options: DatasetOptions


@dataclass(frozen=True)
class ImageDataset:
    """A prepared data set.

    Attributes:
        name: What the images are; synthetic and built-in ones say so. It goes into every row of
            results.
        train: (N, C, H, W), uint8 intensities or float32 angles in [-pi, pi), memory-mapped
            copy-on-write. In an order in which any prefix is
            a fair sample.
        test: Likewise; shares no group (finger, source image) and no image with `train`.
        content_hash: Hash of the pixels and the split.
        description: One line: counts, view, scale, split.
        warnings: What was left out, and why.
        source: Where the images came from this time.
        licence: What to know before using or passing on the images.
        details: Counts and the rule of the split.
        options: As they were asked for, with what `auto` stands for.
    """

    name: str
    train: torch.Tensor
    test: torch.Tensor
    content_hash: str
    description: str
    warnings: tuple[str, ...]
    source: str
    licence: str
    details: Details
    options: DatasetOptions

    @property
    def values(self) -> Values:
        """What the images' numbers are: uint8 intensities, or float32 angles in [-pi, pi)."""
        return self.options.values


def open_dataset(
    options: DatasetOptions,
    data_dir: Location | None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    on_unit: OnUnit | None = None,
) -> PreparedDataset:
    """Prepares a data set, or opens it from the cache.

    Real images are read from `data_dir`. Without it, built-in images serve where the data set has
    some, and the name of the data set says so. The environment is not looked at here: what a sweep
    was planned on must not change with the shell it is resumed from.

    Args:
        options: Which images, and how to prepare them.
        data_dir: Folder of real images, searched with its subfolders, or a zip or tar archive; on
            an object store, an archive.
        cache_dir: Folder for prepared images; by default $KOD_BENCH_CACHE, else the user's cache.
        progress: Receives one line of text now and then.
        on_unit: Receives how many units of work are done, and of how many, more often.

    Returns:
        The data set; the same pixels in the same order for the same images and options.

    Raises:
        DataError: No usable images, too few of them, or a cache that cannot be written or is not
            the user's own.
    """
    report = progress or _ignore
    cache_dir = cache.default_cache_dir() if cache_dir is None else Path(cache_dir)
    check_cache(cache_dir)
    if isinstance(data_dir, ObjectFolder):
        data_dir = fetch_archive(data_dir, cache_dir)
    folder = None if data_dir is None else Path(data_dir)
    source = open_source(options, folder, cache_dir)
    asked, options = (
        options,
        settle(options, source, cache_dir, _cache_key(options, source), report),
    )
    if options != asked:
        source = open_source(options, folder, cache_dir)
    entry = cache_dir / _cache_key(options, source)

    found = cache.read_entry(entry)
    cached = found is not None
    if found is None:
        with cache.staging_folder(entry) as staging:
            if cache.read_entry(entry) is None:  # else another process made it while we waited
                work = staging / "work"
                work.mkdir()
                images = prepare(options, source, work, report, on_unit or _ignore)
                cache.publish(staging, entry, images)
        found = cache.read_entry(entry)
        if found is None:
            raise DataError(f"the cache entry {entry} was damaged as soon as written; retry")
    else:
        report(f"{source.title}: prepared before, in {entry}")
    licence = find_spec(options.name).licence
    images, content_hash = found
    description = f"{images.description}{_settled_note(asked, options)}"
    return PreparedDataset(
        replace(images, description=description),
        content_hash,
        source=source.title,
        licence=licence,
        cached=cached,
        options=options,
    )


def load_dataset(
    options: DatasetOptions,
    data_dir: Location | None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    on_unit: OnUnit | None = None,
) -> ImageDataset:
    """`open_dataset`, with the images as tensors over the same memory-mapped files."""
    import torch

    opened = open_dataset(options, data_dir, cache_dir, progress, on_unit)
    images = opened.images
    return ImageDataset(
        name=images.name,
        train=torch.from_numpy(images.train),
        test=torch.from_numpy(images.test),
        content_hash=opened.content_hash,
        description=images.description,
        warnings=images.warnings,
        source=opened.source,
        licence=opened.licence,
        details=images.details,
        options=opened.options,
    )


def default_data_dir() -> Location | None:
    """The folder of images that the user named in $KOD_BENCH_DATA, if any."""
    named = os.environ.get("KOD_BENCH_DATA")
    return parse_location(named) if named else None


def prepared_count(name: str) -> int:
    """How many ways of preparing a data set, real or built-in, are in the user's cache."""
    endings = ("builtin", "synthetic", "folder", *get_args(SphereField))
    known = (name, *(f"{name}-{ending}" for ending in endings))
    pattern = rf"{name}-.*" if name in ("folder", "angles") else "|".join(map(re.escape, known))
    if name not in ("folder", "angles", *DATASET_NAMES):  # a plug-in has endings of its own
        pattern = rf"{re.escape(name)}(?:-.*)?"
    # The folder's name alone decides; what it holds is verified when it is opened.
    return sum(
        re.fullmatch(rf"(?:{pattern})-[0-9a-f]{{24}}", entry.parent.name) is not None
        for entry in cache.default_cache_dir().glob("*/meta.json")
    )


def _settled_note(asked: DatasetOptions, settled: DatasetOptions) -> str:
    """What `auto` turned out to be, and why."""
    note = ""
    if asked.color == "auto":
        why = "all images are gray" if settled.color == "gray" else "not all images are gray"
        note += f"; color auto is {settled.color}: {why}"
    if asked.value_range == "auto":
        found = settled.known_range
        note += "; value_range auto is " + (
            "of no use: no image has more than 8 bits"
            if found is None
            else f"[{found[0]:g}, {found[1]:g}]"
        )
    return note


def _ignore(*_: object) -> None:
    """The progress of someone who does not want to know."""


#: Of the options, what a source's own identity says where it matters, or nothing depends on.
_OF_SOURCES = {"synthetic", "sphere", "xy", "orientation", "flow", "angles", "augment", "name"}


def _cache_key(options: DatasetOptions, source: Source) -> str:
    """Hash of all that a prepared array depends on, and of nothing else."""
    relevant = options.model_dump(mode="json", exclude=_OF_SOURCES)
    if options.view == "whole":
        for of_patches in ("scale", "max_patches_per_image", "dpi"):
            relevant.pop(of_patches, None)
    identity = {
        "version": PREPARATION_VERSION,
        "name": source.name,
        "options": relevant,
        **source.identity(),
    }
    if (plugin := plugin_source(options.name)) is not None:
        identity["plugin"] = plugin  # its code has no version to raise
    digest = splits.hash_text(json.dumps(identity, sort_keys=True))
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', source.name)[:60]}-{digest[:24]}"
