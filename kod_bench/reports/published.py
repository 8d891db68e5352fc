"""Numbers that others have published, from ``results/published/*.csv``.

They stand beside ours in a block of their own, with their source, how sure it is, and what differs
in their protocol; no ranking has them.
"""

import csv
import functools
from collections.abc import Sequence
from pathlib import Path

import kod_bench
from kod_bench.errors import UsageError
from kod_bench.reports.content import PublishedNumber

COLUMNS = (
    "family",
    "dataset",
    "model",
    "steps",
    "metric",
    "value",
    "paper",
    "source",
    "confidence",
    "differences",
)


def published_folder() -> Path:
    """Where the files are: in the installed package, or in the checkout it was imported from."""
    package = Path(kod_bench.__file__).parent
    installed = package / "published"
    return installed if installed.is_dir() else package.parent / "results" / "published"


@functools.cache
def all_published() -> tuple[PublishedNumber, ...]:
    """Every published number, file by file."""
    return tuple(
        number
        for path in sorted(published_folder().glob("*.csv"))
        for number in read_published(path)
    )


def published_for(datasets: Sequence[str]) -> tuple[PublishedNumber, ...]:
    """Those on data sets of a family: ``fingerprints``, also for ``fingerprints-synthetic``."""
    return tuple(
        number
        for number in all_published()
        if any(
            name == number.family or name.startswith(f"{number.family}-")
            for name in datasets
            if number.family
        )
    )


def read_published(path: Path) -> list[PublishedNumber]:
    """Read one file.

    Raises:
        UsageError: naming file and line, if a column is missing or a value is not a number.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise UsageError(f"{path}: line 1: columns must be {','.join(COLUMNS)}")
        found = []
        for line in reader:
            try:
                found.append(
                    PublishedNumber(
                        **{name: line[name] for name in COLUMNS if name not in ("steps", "value")},
                        steps=int(line["steps"]) if line["steps"] else None,
                        value=float(line["value"]),
                    )
                )
            except (TypeError, ValueError) as error:
                raise UsageError(f"{path}: line {reader.line_num}: {error}") from error
    return found
