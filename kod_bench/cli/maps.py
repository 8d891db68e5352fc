"""Options that say how files of maps of the sphere lie."""

import contextlib
from typing import Annotated, Any, Literal

import typer

from kod_bench.errors import UsageError

Grid = Annotated[
    Literal["gauss-legendre", "cells", "poles", "driscoll-healy", "mcewen-wiaux"] | None,
    typer.Option(help="Where the rows of .npy maps are; default: what shape and values say."),
]
Flip = Annotated[
    Literal["latitude"] | None, typer.Option(help="Rows of .npy maps go from south to north.")
]
Fill = Annotated[
    str | None,
    typer.Option(metavar="VALUE", help="Means missing in .npy maps: a number, nan or none."),
]


def sphere_section(dataset: str | None, **said: object) -> dict[str, Any]:
    """The section `sphere` of a data set's options: what was said; `fill` may be a number.

    Raises:
        UsageError: something was said, of another data set.
    """
    section = {key: value for key, value in said.items() if value is not None}
    if section and dataset != "sphere":
        raise UsageError(
            f"--{next(iter(section))} is an option of data set sphere, not of {dataset}"
        )
    if isinstance(fill := section.get("fill"), str):
        with contextlib.suppress(ValueError):  # of a word
            section["fill"] = float(fill)
    return {"sphere": section} if section else {}
