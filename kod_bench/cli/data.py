"""``kod-bench data``: what data sets there are, prepared and looked at before anything trains."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kod_bench.cli.angles import Temperature, Unit, angle_sections
from kod_bench.cli.complete import complete_profiles, complete_spaces
from kod_bench.cli.maps import Fill, Flip, Grid, sphere_section
from kod_bench.cli.options import expand_location, expand_path, parse_range
from kod_bench.cli.say import echo
from kod_bench.errors import UsageError
from kod_bench.names import cut_to_bytes
from kod_bench.storage import Location, parse_location

if TYPE_CHECKING:
    from kod_bench.data import DatasetOptions, PreparedDataset

_SECONDS_BETWEEN_LINES = 5.0
_OF_SPHERE = ("field", "grid", "flip", "fill")  # options of one section of a search space

data_app = typer.Typer(
    name="data",
    help="Data sets: list what there is, prepare one, show what it holds.",
    no_args_is_help=True,
)

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        help="fingerprints, textures, terrain, cifar10, sphere, xy, orientation, flow, "
        "folder:PATH, angles:PATH, or a plug-in's.",
    ),
]
DataDir = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|URI",
        callback=expand_location,
        help="Folder, zip or tar of images, or a zip or tar at s3:// or gs://; sphere: a folder of "
        ".npy maps; "
        "default: $KOD_BENCH_DATA, else built-in.",
    ),
]
Space = Annotated[
    str | None,
    typer.Option(
        metavar="NAME_OR_YAML",
        help="Take all options from this search space instead.",
        autocompletion=complete_spaces,
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(help="Of the search space; default: auto.", autocompletion=complete_profiles),
]
ImageSize = Annotated[int | None, typer.Option(help="Side of the images; default: 32.")]
View = Annotated[
    Literal["patches", "whole"] | None, typer.Option(help="Cut squares, or shrink whole images.")
]
Scale = Annotated[
    list[float] | None, typer.Option(help="Shrink by this before cutting patches; may be repeated.")
]
Color = Annotated[
    Literal["auto", "gray", "rgb"] | None,
    typer.Option(help="One channel, or three; auto: one if all images are gray."),
]
ValueRange = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH|auto",
        help="What becomes black and white, of 16-bit and floating-point files.",
    ),
]
Field = Annotated[
    Literal["gaussian", "log-normal", "land-sea"] | None,
    typer.Option(help="Built-in maps of the sphere; default: gaussian."),
]
TestShare = Annotated[float | None, typer.Option(help="Share of the groups held out.")]
Group = Annotated[
    str | None,
    typer.Option(metavar="REGEX", help="Images whose paths match alike share a side of the split."),
]
Dpi = Annotated[
    str | None,
    typer.Option(metavar="NUMBER|ignore", help="Of scans whose files say none; or ignore it all."),
]
MaxPatches = Annotated[int | None, typer.Option(help="Keep at most so many patches of an image.")]


@data_app.command("list")
def list_datasets(data_dir: DataDir = None) -> None:
    """List the known data sets, and where each would come from now."""
    from kod_bench.data import DATASETS, default_data_dir, prepared_count
    from kod_bench.data.cache import default_cache_dir
    from kod_bench.plugins import announced

    folder = parse_location(data_dir) if data_dir else default_data_dir()
    cache_dir = default_cache_dir()
    for name, spec in DATASETS.items():
        origin = spec.without_folder(cache_dir) if folder is None else f"data folder {folder}"
        _list_entry(name, origin, prepared_count(name), spec.layout, spec.licence)
    for plugin in announced("dataset").values():
        # Its layout and licence are in its code, which runs when it is named, and not before.
        packages = " and ".join(f"package {each.package} {each.version}" for each in plugin)
        _list_entry(plugin[0].name, packages, prepared_count(plugin[0].name), None, None)
    _list_entry("folder:PATH", "PATH", prepared_count("folder"), "any", "yours to know")
    arrays = ".npy files of angles"
    _list_entry("angles:PATH", "PATH", prepared_count("angles"), arrays, "yours to know")
    echo(f"prepared images are kept in {cache_dir}")


def _list_entry(
    name: str, origin: str, prepared: int, layout: str | None, licence: str | None
) -> None:
    times = {0: "not prepared", 1: "prepared once"}.get(prepared, f"prepared {prepared} times")
    echo(f"{name}\n  from     {origin}; {times}")
    for what, said in (("folders", layout), ("licence", licence)):
        if said is not None:
            echo(f"  {what}  {said}")


@data_app.command()
def prepare(
    name: Name = None,
    data_dir: DataDir = None,
    space: Space = None,
    profile: Profile = None,
    image_size: ImageSize = None,
    view: View = None,
    scale: Scale = None,
    color: Color = None,
    value_range: ValueRange = None,
    test_share: TestShare = None,
    max_patches_per_image: MaxPatches = None,
    group: Group = None,
    dpi: Dpi = None,
    field: Field = None,
    grid: Grid = None,
    flip: Flip = None,
    fill: Fill = None,
    unit: Unit = None,
    temperature: Temperature = None,
) -> None:
    """Prepare a data set once, so that every later run opens it at once."""
    from time import monotonic

    options = _options(
        name,
        space,
        profile,
        {
            "image_size": image_size,
            "view": view,
            "scale": scale,
            "color": color,
            "value_range": None if value_range is None else parse_range(value_range),
            "test_share": test_share,
            "max_patches_per_image": max_patches_per_image,
            "group": group,
            "dpi": int(dpi) if dpi is not None and dpi.isdecimal() else dpi,
            "field": field,
            "grid": grid,
            "flip": flip,
            "fill": fill,
            "unit": unit,
            "temperature": temperature,
        },
    )
    began = monotonic()
    opened = _open(options, data_dir)
    images = opened.images
    echo(f"{images.name}: {images.description}")
    for reason, count in images.details.skipped.items():
        echo(f"  skipped {count}: {reason}")
    echo(f"split {images.details.split}")
    echo(f"hash {opened.content_hash}")
    took = f"{images.details.seconds:.1f} s"
    if opened.cached:
        echo(f"prepared before, in {took}; opened in {monotonic() - began:.2f} s")
    else:
        echo(f"prepared in {took}")


@data_app.command()
def show(
    name: Name = None,
    data_dir: DataDir = None,
    space: Space = None,
    profile: Profile = None,
    image_size: ImageSize = None,
    view: View = None,
    scale: Scale = None,
    color: Color = None,
    value_range: ValueRange = None,
    test_share: TestShare = None,
    max_patches_per_image: MaxPatches = None,
    group: Group = None,
    dpi: Dpi = None,
    field: Field = None,
    grid: Grid = None,
    flip: Flip = None,
    fill: Fill = None,
    unit: Unit = None,
    temperature: Temperature = None,
    steps: Annotated[
        list[int] | None,
        typer.Option(min=1, help="T of the terminal mismatch; default: 25, 100 and 1000."),
    ] = None,
    chains: Annotated[int, typer.Option(min=2, help="Forward chains for each.")] = 512,
    output: Annotated[
        Path | None,
        typer.Option(callback=expand_path, help="The picture; default: ./NAME-contact-sheet.png."),
    ] = None,
) -> None:
    """Show what a data set holds: counts, pixels, split, terminal mismatch, and a picture."""
    options = _options(
        name,
        space,
        profile,
        {
            "image_size": image_size,
            "view": view,
            "scale": scale,
            "color": color,
            "value_range": None if value_range is None else parse_range(value_range),
            "test_share": test_share,
            "max_patches_per_image": max_patches_per_image,
            "group": group,
            "dpi": int(dpi) if dpi is not None and dpi.isdecimal() else dpi,
            "field": field,
            "grid": grid,
            "flip": flip,
            "fill": fill,
            "unit": unit,
            "temperature": temperature,
        },
    )
    _open(options, data_dir)  # with its progress; then it is in the cache
    from rich.console import Console
    from rich.progress import track

    from kod_bench.data import load_dataset
    from kod_bench.evaluation import write_mollweide
    from kod_bench.reports.contact_sheet import write_dataset_sheet
    from kod_bench.reports.dataset_summary import (
        COUPLINGS,
        MISMATCH_NOTE,
        measure_mismatch,
        mismatch_table,
        summary_lines,
        summary_table,
    )

    console = Console()
    dataset = load_dataset(options, _folder(options, data_dir))
    console.print(summary_table(dataset))
    for line in summary_lines(dataset):
        echo(line)
    named = cut_to_bytes(dataset.name.replace("/", "-"), 200)
    path = output or Path(f"{named}-contact-sheet.png")
    sides = [("training", dataset.train), ("test", dataset.test)]
    try:
        write_dataset_sheet(path, f"{dataset.name}  {dataset.content_hash}", sides)
        if options.on_sphere:
            maps = path.with_name(f"{path.stem}-mollweide.png")
            write_mollweide(maps, dataset.train)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written ({error.strerror}); name another with --output"
        ) from error
    wanted = [(coupling, each) for coupling in COUPLINGS for each in steps or (25, 100, 1000)]
    waiting = Console(stderr=True)
    measured = [
        measure_mismatch(dataset, coupling, each, chains, options.changes)
        for coupling, each in track(
            wanted,
            "forward chains",
            console=waiting,
            transient=True,
            disable=not waiting.is_terminal,
        )
    ]
    console.print(mismatch_table(measured, chains))
    echo(MISMATCH_NOTE)
    echo(f"picture: {path}")
    if options.on_sphere:
        echo(f"Mollweide maps: {maps}")


def _options(
    name: str | None, space: str | None, profile: str | None, given: dict[str, object]
) -> "DatasetOptions":
    """The options that the command line says, or those of a search space."""
    from pydantic import ValidationError

    from kod_bench.data import DatasetOptions

    said = {key: value for key, value in given.items() if value not in (None, [])}
    if space is not None:
        if name is not None or said:
            named = ["NAME"] if name else [f"--{key.replace('_', '-')}" for key in said]
            raise UsageError(f"--space says everything about the data set; leave out {named[0]}")
        from kod_bench.sweeps.space import find_space, load_space

        return load_space(find_space(space), profile or "auto").options.dataset
    if profile is not None:
        raise UsageError("--profile belongs to a search space; name one with --space")
    if name is None:
        raise UsageError("name a data set (see kod-bench data list), or give --space")
    said |= angle_sections(name, said.pop("unit", None), said.pop("temperature", None))
    said |= sphere_section(name, **{key: said.pop(key, None) for key in _OF_SPHERE})
    if isinstance(scales := said.get("scale"), list):
        said["scale"] = scales[0] if len(scales) == 1 else tuple(scales)
    try:
        return DatasetOptions.model_validate({"name": name, "image_size": 32, **said})
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        inside = len(first["loc"]) > 1 and first["loc"][0] in ("sphere", "angles", "xy")
        option = str(first["loc"][1 if inside else 0]).replace("_", "-")
        where = "data set" if option == "name" else f"--{option}"
        raise UsageError(f"{where} {first['input']!r} is not allowed: {message}") from error


def _folder(options: "DatasetOptions", data_dir: str | None) -> Location | None:
    from kod_bench.data import default_data_dir

    if data_dir:
        return parse_location(data_dir)
    return None if options.folder else default_data_dir()


def _open(options: "DatasetOptions", data_dir: str | None) -> "PreparedDataset":
    """Open or prepare, with a progress bar on a terminal and a line now and then elsewhere."""
    from time import monotonic

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from kod_bench.data import open_dataset

    folder = _folder(options, data_dir)
    console = Console(stderr=True)
    if console.is_terminal:
        columns = TextColumn("preparing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("preparing", total=None)
            opened = open_dataset(
                options, folder, on_unit=lambda done, of: bar.update(task, completed=done, total=of)
            )
    else:
        last = monotonic()

        def say(done: int, total: int) -> None:
            nonlocal last
            if monotonic() - last > _SECONDS_BETWEEN_LINES:
                last = monotonic()
                echo(f"prepared {done} of {total}", err=True)

        opened = open_dataset(options, folder, on_unit=say)
    for warning in opened.images.warnings:
        echo(f"warning: {warning}", err=True)
    return opened
