"""``kod-bench export``: a trained model in a folder of its own, to be kept or passed on."""

from pathlib import Path
from typing import Annotated

import typer

from kod_bench.cli.options import expand_path
from kod_bench.cli.sample import DataDirs, Plugins
from kod_bench.cli.say import echo
from kod_bench.errors import UsageError
from kod_bench.storage import parse_location


def export(
    trial: Annotated[
        str, typer.Argument(metavar="TRIAL", help="Folder of a finished trial, or its address.")
    ],
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", callback=expand_path, help="Where the model goes; new."),
    ],
    licence: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of the weights, for the card, as hubs call it: apache-2.0, ..."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier model in DIR.")
    ] = False,
    plugin: Plugins = None,
    data_dir: DataDirs = None,
) -> None:
    """Write a trained model as safetensors, with a model card and a grid of samples."""
    from kod_bench.models import Permissions
    from kod_bench.models.export import check_folder, check_licence, export_trial
    from kod_bench.models.opening import whole_sweep_of
    from kod_bench.training import pick_device

    check_licence(licence)
    check_folder(folder, overwrite)
    if (found := whole_sweep_of(parse_location(trial))) is None:
        raise UsageError(
            f"{trial}: is not the folder of a trial, such as results/SPACE/SWEEP/trials/TRIAL"
        )
    export_trial(
        *found,
        folder,
        device=pick_device(gpu=True),
        permissions=Permissions(plugin or (), tuple(map(parse_location, data_dir or []))),
        licence=licence,
    )
    echo(f"{found[1].id}\n  written: {folder}; it loads with kod_bench.load({str(folder)!r})")
