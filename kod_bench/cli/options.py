"""Options that several commands share."""

from typing import Annotated

import typer

from kod_bench.cli.complete import complete_spaces, complete_sweeps

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
        metavar="PATH|URI", help="Folder of all sweeps, or s3://bucket/prefix, gs://bucket/prefix."
    ),
]
DEFAULT_RESULTS = "results"
