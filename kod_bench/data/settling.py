"""What `auto` in the options of a data set stands for, found out from its images."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from kod_bench.atomic import atomic_write
from kod_bench.data import cache, workers
from kod_bench.data.decoder import Survey
from kod_bench.data.errors import DataError
from kod_bench.data.options import DatasetOptions
from kod_bench.data.spec import FileSource, Source

_FOLDER = ".surveys"
#: The options that may be "auto".
AUTOMATIC = ("color", "value_range")
# Of sources that are no files: CIFAR-10 is in colour, all that is built in is gray.
_COLORED = ("cifar10",)


class _Found(BaseModel, extra="forbid", frozen=True):
    """What is remembered."""

    gray: bool
    span: tuple[float, float] | None


@dataclass(frozen=True)
class _Surveyor:
    """Looks at the image of a unit. Pickled for the worker processes."""

    source: FileSource
    colors: bool
    spans: bool
    first: int = 0

    def __call__(self, unit: int) -> Survey | None:
        return self.source.survey(self.first + unit, colors=self.colors, spans=self.spans)


def settle(
    options: DatasetOptions,
    source: Source,
    cache_dir: Path,
    key: str,
    report: Callable[[str], None],
) -> DatasetOptions:
    """Options without `auto`: the same ones for the same images, wherever they are.

    Args:
        options: Perhaps with `auto`.
        source: Of the images.
        cache_dir: Where it is remembered, by the contents of the files.
        key: What the images and the options depend on.
        report: Receives a line of text.

    Raises:
        DataError: The images cannot be unpacked, or the cache cannot be written.
    """
    if options.is_settled:
        return options
    if not isinstance(source, FileSource):
        color = "rgb" if source.name in _COLORED else "gray"
        return _with(options, _Found(gray=color == "gray", span=None))
    path = cache_dir / _FOLDER / f"{key}.json"
    if (found := _recall(path)) is None:
        with cache.staging_folder(cache_dir / key) as work:
            found = _recall(path)  # another process may have found it out while we waited
            if found is None:
                source.unpack(work)
                report(f"{source.title}: looking at {source.units} images")
                found = _look(options, source)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(found.model_dump_json().encode())
        except OSError as error:
            raise DataError(f"cannot write the cache in {cache_dir}: {error.strerror}") from None
    return _with(options, found)


def settled_before(
    options: DatasetOptions, planned: Sequence[Mapping[str, Any]]
) -> DatasetOptions | None:
    """Of the options that a plan holds, those that these became when it was made.

    Args:
        options: Perhaps with `auto`.
        planned: Options of a plan as plain values, all of them settled.

    Returns:
        None where the plan has no such data set.
    """
    if options.is_settled:
        return options
    automatic = {name: "auto" for name in AUTOMATIC if getattr(options, name) == "auto"}
    for values in planned:
        # Validated, not compared as they are: an older plan lacks the options of today.
        settled = DatasetOptions.model_validate_json(json.dumps(values), strict=True)
        if settled.model_copy(update=automatic) == options:
            return settled
    return None


def _look(options: DatasetOptions, source: FileSource) -> _Found:
    """Every image, or as many as it takes to know."""
    colors, spans = options.color == "auto", options.value_range == "auto"
    gray, lowest, highest = True, float("inf"), float("-inf")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in `prepare`, which will see the same files
        for seen in _surveys(_Surveyor(source, colors, spans)):
            if seen is None:
                continue
            gray = gray and seen.gray
            if seen.span is not None:
                lowest = min(lowest, seen.span.lowest)
                highest = max(highest, seen.span.highest)
            if not gray and not spans:
                break
    return _Found(gray=gray, span=(lowest, highest) if lowest < highest else None)


def _surveys(look: _Surveyor) -> Iterator[Survey | None]:
    # The first alone: it tells already that most folders in colour are in colour.
    yield look(0)
    rest = replace(look, first=1)
    yield from workers.map_units(
        rest, look.source.units - 1, _unknown, parallel=look.source.parallel
    )


def _unknown(unit: int) -> Survey | None:
    """Of an image whose decoder crashed."""
    del unit
    return None


def _with(options: DatasetOptions, found: _Found) -> DatasetOptions:
    values: dict[str, Any] = {}
    if options.color == "auto":
        values["color"] = "gray" if found.gray else "rgb"
    if options.value_range == "auto":
        values["value_range"] = found.span
    return options.model_copy(update=values)


def _recall(path: Path) -> _Found | None:
    try:
        return _Found.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None
