"""What distinguishes one data set from another, and where its images come from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from kod_bench.data.angle_options import Values
from kod_bench.data.decoder import Survey
from kod_bench.data.depths import Span
from kod_bench.data.errors import DataError
from kod_bench.data.files import AngleField, SourcePixels
from kod_bench.data.name_schemes import Labels
from kod_bench.data.options import DatasetOptions
from kod_bench.data.views import Subject


@dataclass(frozen=True)
class SourceImage:
    """One image as its source gives it.

    Attributes:
        name: Path below the data folder, or what stands for it.
        pixels: (H, W) or (H, W, 3); of a data set of angles, one view or
            several, (H, W) or (N, H, W) in [-pi, pi); None if they could not be read.
        reason: Why they could not.
        remarks: What a user should know about how they were read; see `Decoded`.
        span: Of the values, where they were not 8-bit.
    """

    name: str
    pixels: SourcePixels | AngleField | None = None
    reason: str = ""
    remarks: tuple[str, ...] = ()
    span: Span | None = None


class Source(Protocol):
    """Where images come from.

    Units are independent of each other. They are read in other processes where `parallel` says
    that it pays, so a source can be pickled.
    """

    name: str  # of the resulting data set
    title: str  # in messages
    units: int
    notes: tuple[str, ...]  # warnings that arose before any unit was read
    parallel: bool
    split_rule: str  # if the source divides its images into train and test by itself

    def identity(self) -> dict[str, object]:
        """What the images depend on, for the cache's key. Must not need `unpack`."""
        ...

    def unpack(self, folder: Path) -> None:
        """Called once before the first `read`, with an empty folder for the work."""
        ...

    def read(self, unit: int) -> Iterable[SourceImage]:
        """The images of a unit; never raises for one that cannot be read."""
        ...


def reading_of(source: Source) -> str:
    """How a source's images were read, for the line about the data; few have something to say.

    It is the source's attribute `reading`, which it knows after `unpack`.
    """
    return str(getattr(source, "reading", ""))


@runtime_checkable
class FileSource(Source, Protocol):
    """A source of image files, which may be gray or in colour, and of any depth."""

    def survey(self, unit: int, *, colors: bool, spans: bool) -> Survey | None:
        """What has to be known of a unit before the first is read; None if it cannot be read."""
        ...


@dataclass(frozen=True)
class DatasetSpec:
    """One data set.

    Attributes:
        subject: What its images show.
        group_noun: What a group of images is, in the plural.
        group_labels: (names, pixel hashes) of the images => the labels of each, shared within a
            group, none where a name says nothing. None: every image is a group of its own.
        values: What the images' numbers are. Angles come from a source as large as their view.
        needs_division: Whether folders `train` and `test` in the data folder are the only split.
        defaults: Of a plug-in's data set: what its options `view`, `scale`, `color` and `augment`
            are where a search space leaves them out, if they are not patches at scale 0.5, gray,
            as they are.
        layout: What the data folder must look like, for messages.
        licence: What to know before using or passing on the images.
        without_folder: What there is without a folder of images, in a few words; may look into
            the cache folder.
        open_special: (options, folder or None, cache folder) => the source, unless it is a folder
            of images like any other. Without a folder there must be one.
    """

    subject: Subject
    group_noun: str
    layout: str
    licence: str
    without_folder: Callable[[Path], str]
    open_special: Callable[[DatasetOptions, Path | None, Path], Source | None]
    group_labels: Callable[[Sequence[str], Sequence[str]], list[Labels]] | None = None
    values: Values = "intensities"
    needs_division: bool = False
    defaults: Mapping[str, object] = field(default_factory=dict)


def unless_folder(
    make: Callable[[DatasetOptions], Source],
) -> Callable[[DatasetOptions, Path | None, Path], Source | None]:
    """An `open_special` of a data set that is built in, and whose folders are like any other."""

    def open_special(options: DatasetOptions, folder: Path | None, _: Path) -> Source | None:
        return make(options) if folder is None else None

    return open_special


def built_in_alone(
    make: Callable[[DatasetOptions], Source],
) -> Callable[[DatasetOptions, Path | None, Path], Source | None]:
    """An `open_special` of built-in fields of angles, beside which no folder is read."""

    def open_special(options: DatasetOptions, folder: Path | None, _: Path) -> Source:
        if folder is not None:
            raise DataError(
                f"dataset {options.name} is built in; fields of your own are angles:{folder}"
            )
        return make(options)

    return open_special
