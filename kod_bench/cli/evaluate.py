"""``kod-bench evaluate``: scores of a folder of images from any tool."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kod_bench.cli.angles import Temperature, Unit, angle_sections
from kod_bench.cli.maps import Fill, Flip, Grid, sphere_section
from kod_bench.cli.options import expand_location, expand_path, parse_range
from kod_bench.cli.say import echo
from kod_bench.errors import UsageError
from kod_bench.freed_memory import keep_freed_memory
from kod_bench.storage import parse_location
from kod_bench.visible import visible

if TYPE_CHECKING:
    from rich.table import Table

    from kod_bench.evaluation.folder_scores import FolderScores


def evaluate(
    generated: Annotated[
        Path,
        typer.Argument(
            callback=expand_path,
            help="Folder of images, searched with subfolders; or .npz, .npy.",
        ),
    ],
    against: Annotated[
        str, typer.Option(help="Folder of reference images, or a data set's name (its test split).")
    ],
    train: Annotated[
        Path | None,
        typer.Option(
            callback=expand_path,
            help="Folder of training images: for memorisation, and real versus real.",
        ),
    ] = None,
    data_dir: Annotated[
        str | None,
        typer.Option(
            callback=expand_location,
            help="Folder of a named data set; default: $KOD_BENCH_DATA, else built in.",
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX", help="Of a named data set: dataset.group, as the model was trained."
        ),
    ] = None,
    features: Annotated[
        str,
        typer.Option(
            help="auto, inception, efficientnet-lite0, dinov2-vitb14, dinov2-vitl14, "
            "or my_module:MyExtractor."
        ),
    ] = "auto",
    grid: Grid = None,
    flip: Flip = None,
    fill: Fill = None,
    unit: Unit = None,
    temperature: Temperature = None,
    metrics: Annotated[
        str | None, typer.Option(help="Columns to compute, such as fid,kid; default: all.")
    ] = None,
    value_range: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH|auto",
            help="What becomes black and white, of 16-bit and floating-point files in the folders.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of KID's subsets and other choices.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", callback=expand_path, help="Write everything as JSON, too."
        ),
    ] = None,
) -> None:
    """Score images or angles of any tool: FID, KID, coverage, texture, memorisation, vortices."""
    from kod_bench.cli.json_file import check_writable, write_json

    if json_file is not None:
        check_writable(json_file)
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, TaskID

    from kod_bench.data import default_data_dir
    from kod_bench.evaluation.folder_scores import score_folder
    from kod_bench.training import pick_device

    if data_dir is not None and Path(against).is_dir():
        raise UsageError(f"--data-dir {data_dir}: is of a named data set; {against} is a folder")
    keep_freed_memory()
    console = Console(stderr=True)
    progress = Progress(console=console, transient=True, disable=not console.is_terminal)
    tasks: dict[str, TaskID] = {}

    def tick(what: str, done: int, total: int) -> None:
        progress.start()  # not before there is something to show
        if what not in tasks:
            tasks[what] = progress.add_task(escape(visible(what, keep="")), total=total)
        progress.update(tasks[what], completed=done)

    try:
        found = score_folder(
            generated,
            against,
            train=train,
            data_dir=parse_location(data_dir) if data_dir else default_data_dir(),
            options={
                **sphere_section(against, grid=grid, flip=flip, fill=fill),
                **angle_sections(against, unit, temperature),
                **({} if group is None else {"group": group}),
            },
            features=features,
            columns=[part.strip() for part in metrics.split(",")] if metrics is not None else [],
            value_range=None if value_range is None else parse_range(value_range),
            seed=seed,
            batch_size=batch_size,
            device=pick_device(gpu=True),
            say=echo,
            tick=tick,
        )
    finally:
        progress.stop()
    Console().print(_table(found))
    if json_file is not None:
        write_json(json_file, found.as_dict())


def _table(found: "FolderScores") -> "Table":
    from rich.table import Table
    from rich.text import Text

    samples = f"{found.sample_count} samples of {found.generated}"
    references = f"{found.reference_count} references of {found.against}"
    table = Table(
        title=Text(visible(f"{samples} against {references}", keep="")),  # names of folders
        title_justify="left",
        caption=Text(
            visible(
                "\n".join(
                    [
                        f"Features {found.features}." if found.features else "No features.",
                        *(f"Training images: {n}." for n in [found.train_count] if n is not None),
                        *(f"{note[0].upper()}{note[1:]}." for note in found.notes),
                    ]
                )
            )
        ),
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    for name in ("Metric", "Value", "Real vs real", "Better", "Source"):
        numeric = name in ("Value", "Real vs real")
        table.add_column(name, justify="right" if numeric else "left", no_wrap=name != "Source")
    for metric in found.metrics:
        for column in metric.columns:
            values = [found.scores[column], found.real[column]]
            cells = ["" if value is None else f"{value:.4g}" for value in values]
            table.add_row(column, *cells, metric.better or "neither", metric.source)
    return table
