"""Options that several commands share."""

import math
from typing import Annotated, Literal

import typer

from kod_bench.errors import UsageError

SpaceName = Annotated[
    str, typer.Argument(metavar="NAME_OR_YAML", help="A search space, by name or path.")
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
        metavar="PATH|URI", help="Folder of all sweeps, or s3://bucket/prefix, gs://bucket/prefix."
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
