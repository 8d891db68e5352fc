"""Options of data sets whose values are angles."""

from typing import Annotated, Any, Literal

import typer

from kod_bench.errors import UsageError

Unit = Annotated[
    Literal["radians", "degrees"] | None,
    typer.Option(help="Of the numbers in the files of angles:PATH; default: radians."),
]
Temperature = Annotated[
    float | None, typer.Option(help="Of the XY model, data set xy; default: 0.8.")
]


def angle_sections(
    dataset: str | None, unit: object, temperature: object
) -> dict[str, dict[str, Any]]:
    """The sections of a data set's options that the command line says.

    Raises:
        UsageError: something was said, of another data set.
    """
    if unit is not None and not (dataset or "").startswith("angles:"):
        raise UsageError(f"--unit is an option of data sets angles:PATH, not of {dataset}")
    if temperature is not None and dataset != "xy":
        raise UsageError(f"--temperature is an option of data set xy, not of {dataset}")
    found: dict[str, dict[str, Any]] = {}
    if unit is not None:
        found["angles"] = {"unit": unit}
    if temperature is not None:
        found["xy"] = {"temperature": temperature}
    return found
