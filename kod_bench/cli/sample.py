"""``kod-bench sample``: draws images from trained models."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kod_bench.cli.complete import complete_sweeps
from kod_bench.cli.options import DEFAULT_RESULTS, ResultsDir, expand_locations, expand_path
from kod_bench.cli.say import echo
from kod_bench.errors import UsageError
from kod_bench.freed_memory import keep_freed_memory
from kod_bench.storage import local_path, parse_location
from kod_bench.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from rich.progress import Task

    from kod_bench.models import Drawing
    from kod_bench.models.opening import Found

Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="NAME",
        help="Let the trial import this plug-in, or those of this package; may be repeated.",
    ),
]
DataDirs = Annotated[
    list[str] | None,
    typer.Option(
        "--data-dir",
        metavar="PATH|URI",
        callback=expand_locations,
        help="Where the images are that it was trained on, if not where the plan says; or, of a "
        "plan that is not yours, what it may read; may be repeated.",
    ),
]


def sample(
    trial: Annotated[
        str | None,
        typer.Argument(
            metavar="[TRIAL_OR_SWEEP]",
            help="Folder of a trial, or of an exported model; or a sweep, all of whose finished "
            "trials are drawn from; default: the newest.",
            autocompletion=complete_sweeps,
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="Images of each model.")] = 64,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|FILE",
            callback=expand_path,
            help="A folder of PNGs; or one file: .npz (arr_0, N H W C), .npy, or .png, a grid.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="GLOB", help="Of a sweep, only models of such a name, as 'ddpm*'."),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="diffusers:FOLDER",
            help="Draw from a diffusers UNet2DModel and its DDPM or DDIM scheduler instead.",
        ),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="One of the process's; default: as it was scored.")
    ] = None,
    network_evaluations: Annotated[
        int | None, typer.Option(help="For each image; default: as it was scored.")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(help="One of the process's, or forward; default: as it was scored."),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGES",
            callback=expand_path,
            help="Start where the forward chains of these images end: a folder, .npz or .npy.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the draws; default: the trial's own.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Images drawn at a time, on which they depend; default: the trial's."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace earlier samples in --out.")
    ] = False,
    plugin: Plugins = None,
    data_dir: DataDirs = None,
    results_dir: ResultsDir = DEFAULT_RESULTS,
) -> None:
    """Draw images from trained models, without training anything again."""
    if out is None:
        raise UsageError("--out is missing: name a folder, or a file .npz, .npy or .png")
    if origin is not None and (trial is not None or model is not None):
        raise UsageError("--from draws from elsewhere; leave out the sweep and --model")
    if count < 1:
        raise UsageError(f"--count {count}: must be at least 1")
    from kod_bench.models import Permissions
    from kod_bench.models.opening import find_models
    from kod_bench.models.outputs import check_output, is_one_file, write_samples
    from kod_bench.models.start import read_start
    from kod_bench.training import pick_device

    keep_freed_memory()
    device = pick_device(gpu=True)
    left_out: dict[str, int] = {}
    if origin is not None:
        found = [_elsewhere(origin, device)]
    else:
        permissions = Permissions(plugin or (), tuple(map(parse_location, data_dir or [])))
        found, left_out = find_models(
            trial, model, parse_location(results_dir), device, permissions
        )
    places = {each.name: out / each.name if len(found) > 1 else out for each in found}
    if len(found) > 1 and is_one_file(out):
        raise UsageError(
            f"--out {out}: is one file, for {len(found)} trials; name a folder, or one trial by "
            "its folder"
        )
    for place in places.values():  # before minutes are spent on the first
        check_output(place, count, overwrite)
    if len(found) > 1:  # one says so itself, before it draws
        for each in found:
            each.check_way(prior, sampler, network_evaluations)
    for why, number in left_out.items():
        echo(f"left out: {number} {'trial' if number == 1 else 'trials'}, {why}", err=True)
    for each in found:
        opened = each.open()
        drawing = opened.drawing(
            count,
            prior=prior,
            sampler=sampler,
            network_evaluations=network_evaluations,
            seed=seed,
            batch_size=batch_size,
            start=None if start is None else read_start(start, opened.shape),
        )
        with _progress(each.name, drawing) as tick:
            write_samples(places[each.name], opened, drawing, tick)
        way = drawing.way
        echo(
            f"{each.name}\n  {count} samples: prior {way.prior}, sampler {way.sampler}, "
            f"{way.network_evaluations} evaluations, seed {drawing.seed}\n  "
            f"{drawing.kept} kept and {drawing.drawn} drawn, in {places[each.name]}"
        )


def _elsewhere(origin: str, device: "torch.device") -> "Found":
    from kod_bench.models.diffusers_folder import PREFIX, open_diffusers
    from kod_bench.models.opening import Found

    if not origin.startswith(PREFIX) or origin == PREFIX:
        raise UsageError(f"--from {origin}: must be {PREFIX}FOLDER")
    folder = local_path(origin.removeprefix(PREFIX))
    return Found(folder.name, lambda: open_diffusers(folder, device))


@contextlib.contextmanager
def _progress(name: str, drawing: "Drawing") -> "Iterator[Callable[[], None]]":
    """A bar with images, images per second and the time left, on a terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: "Task") -> Text:
            speed = "" if task.speed is None else f"{task.speed:.3g}/s"
            return Text(f"{task.completed:.0f}/{task.total:.0f} images {speed}")

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), Speed(), TimeRemainingColumn()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(escape(visible(name, keep="")[:30]), total=drawing.count)
        calls = 0

        def tick() -> None:
            nonlocal calls
            calls += 1
            here = calls * drawing.size / drawing.way.network_evaluations
            bar.update(task, completed=min(drawing.count, drawing.kept + here))

        yield tick
