"""Options that several commands share."""

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from kod_bench.cli.complete import complete_spaces, complete_sweeps
from kod_bench.errors import UsageError
from kod_bench.storage import local_path, parse_location


def expand_location(named: str | None) -> str | None:
    """What an option names, a home folder written out; for those that take an address, too."""
    return str(parse_location(named)) if named else named


def expand_locations(named: list[str] | None) -> list[str] | None:
    """Likewise, of an option that may be repeated."""
    return None if named is None else [str(parse_location(each)) for each in named]


def expand_path(named: Path | None) -> Path | None:
    """A path that an option or argument names, a home folder written out."""
    return None if named is None else local_path(named)


SpaceName = Annotated[
    str,
    typer.Argument(
        metavar="NAME_OR_YAML",
        help="A search space, by name or path.",
        autocompletion=complete_spaces,
    ),
]
SweepName = Annotated[
    str | None,
    typer.Argument(
        metavar="[SWEEP]",
        help="Sweep name or folder; default: the newest.",
        autocompletion=complete_sweeps,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change a key of the space, e.g. training.iterations=500; may be repeated.",
    ),
]
ResultsDir = Annotated[
    str,
    typer.Option(
        metavar="PATH|URI",
        callback=expand_location,
        help="Folder of all sweeps, or s3://bucket/prefix, gs://bucket/prefix.",
    ),
]
#: What a plan that is not the user's own may import and read, by name.
Extractor = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:CLASS", help="Let the sweep import this feature extractor of yours."
    ),
]
SweepPlugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="NAME",
        help="Let the sweep import this plug-in, or those of this package; may be repeated.",
    ),
]
SweepImages = Annotated[
    list[str] | None,
    typer.Option(
        "--data-dir",
        metavar="PATH|URI",
        callback=expand_locations,
        help="Where the images are now; or, of a plan that is not yours, what it may read; may "
        "be repeated.",
    ),
]
DEFAULT_RESULTS = "results"


def parse_range(text: str) -> tuple[float, float] | Literal["auto"]:
    """`LOW,HIGH` or `auto`, of `--value-range`.

    Raises:
        UsageError: it is neither, or LOW is not below HIGH.
    """
    if text == "auto":
        return "auto"
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not -math.inf < low < high < math.inf:
        raise UsageError(
            f"--value-range {text}: must be auto, or two numbers LOW,HIGH, LOW below HIGH "
            "(with a negative LOW: --value-range=-1,1)"
        )
    return low, high
