"""`kod-bench sweep` and `resume`: begin a sweep, finish one."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kod_bench.cli.complete import complete_profiles
from kod_bench.cli.options import (
    DEFAULT_RESULTS,
    Changes,
    Extractor,
    ResultsDir,
    SpaceName,
    SweepImages,
    SweepName,
    SweepPlugins,
    expand_location,
    expand_locations,
)
from kod_bench.cli.rehearse import rehearse_space, run_rehearsal
from kod_bench.cli.running import (
    Address,
    Cpus,
    Gpus,
    Json,
    Quiet,
    WaitForNodes,
    choose_output,
    is_client,
    run,
    run_there,
    share_of,
    teller,
)
from kod_bench.cli.say import echo
from kod_bench.errors import UsageError
from kod_bench.storage import Location, parse_location

if TYPE_CHECKING:
    from kod_bench.sweeps.cluster.share import Share
    from kod_bench.sweeps.display.board import Output
    from kod_bench.sweeps.plan.sweep import Sweep
    from kod_bench.sweeps.space import SearchSpace


def sweep(
    space: SpaceName,
    profile: Annotated[
        str,
        typer.Option(
            help="auto, or a profile of the search space: laptop, workstation, cluster.",
            autocompletion=complete_profiles,
        ),
    ] = "auto",
    data_dir: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|URI",
            callback=expand_location,
            help="Folder, zip or tar of images, or a zip or tar at s3:// or gs://; "
            "default: $KOD_BENCH_DATA, else built-in ones.",
        ),
    ] = None,
    results_dir: ResultsDir = DEFAULT_RESULTS,
    seeds: Annotated[
        str | None, typer.Option(help="Training seeds in place of the space's, e.g. 0,1.")
    ] = None,
    address: Address = None,
    wait_for_nodes: WaitForNodes = 0.0,
    cpus: Cpus = None,
    gpus: Gpus = None,
    changes: Changes = None,
    reuse: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SWEEP|FOLDER",
            callback=expand_locations,
            help="Take over what trials of this sweep, or of those in this folder, have done; may "
            "be repeated.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the trials and what they would cost; run none.")
    ] = False,
    rehearse: Annotated[
        bool,
        typer.Option(
            "--rehearse",
            help="Run each shape of trial for a few steps, killed once and resumed; say what would "
            "fail, and what it costs.",
        ),
    ] = False,
    timing: Annotated[
        bool,
        typer.Option(help="In a dry run, time a few real steps to estimate the cost."),
    ] = True,
    yes: Annotated[
        bool, typer.Option("--yes", help="Start a study for a cluster without asking.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Run a search space: train and score every model at every step count and seed."""
    chosen = None if seeds is None else _parse_seeds(seeds)
    if dry_run and address is not None:
        raise UsageError("--dry-run looks at this machine; leave out --address")
    if dry_run and rehearse:
        raise UsageError("--dry-run and --rehearse: choose one of them")
    output = choose_output(quiet, json)
    share = share_of(cpus, gpus, address)
    if address is not None and is_client(address):
        given = data_dir or expand_location(os.environ.get("KOD_BENCH_DATA"))
        options = ["--profile", profile, "--wait-for-nodes", str(wait_for_nodes)]
        options += ["--data-dir", given] if given else []
        options += ["--seeds", seeds] if seeds else []
        options += ["--yes"] if yes else []
        options += ["--rehearse"] if rehearse else []
        options += [word for change in changes or [] for word in ("--set", change)]
        options += _reuse_there(reuse or [])
        run_there(address, ["sweep"], space, options, results_dir, given, output)
    from kod_bench.data import default_data_dir
    from kod_bench.sweeps.session import open_space, prepare_sweep
    from kod_bench.sweeps.store.find import find_sweeps

    folder = _there(parse_location(data_dir)) if data_dir else default_data_dir()
    reused = find_sweeps(reuse, parse_location(results_dir)) if reuse else []
    if dry_run or rehearse:
        found = open_space(
            space,
            profile=profile,
            seeds=chosen,
            changes=changes or [],
            address=address,
            say=teller(output),
            share=share,
        )
        if dry_run:
            _dry_run(found, folder, timing, output, reused, share)
            return
        there = parse_location(results_dir)
        rehearse_space(found, folder, there, address, wait_for_nodes, output, share)
        return
    prepared = prepare_sweep(
        space,
        confirm=partial(_confirm, space, yes, output),
        profile=profile,
        data_dir=folder,
        results_dir=parse_location(results_dir),
        seeds=chosen,
        changes=changes or [],
        address=address,
        say=teller(output),
        reused=reused,
        share=share,
    )
    run(prepared, address, wait_for_nodes, output, share)


def resume(
    sweep: SweepName = None,
    results_dir: ResultsDir = DEFAULT_RESULTS,
    address: Address = None,
    wait_for_nodes: WaitForNodes = 0.0,
    cpus: Cpus = None,
    gpus: Gpus = None,
    extractor: Extractor = None,
    plugin: SweepPlugins = None,
    data_dir: SweepImages = None,
    reuse: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SWEEP|URI",
            callback=expand_locations,
            help="Where a sweep is now whose models this one takes over; or, of a plan that is not "
            "yours, what it may take; may be repeated.",
        ),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Finish a sweep: run what has no result yet, from its checkpoints; recompute nothing."""
    output = choose_output(quiet, json)
    share = share_of(cpus, gpus, address)
    if address is not None and is_client(address):
        options = ["--wait-for-nodes", str(wait_for_nodes)]
        options += ["--extractor", extractor] if extractor else []
        options += [word for name in plugin or [] for word in ("--plugin", name)]
        options += [word for each in data_dir or [] for word in ("--data-dir", each)]
        options += _reuse_there(reuse or [])
        chosen = ["resume", *([sweep] if sweep else [])]
        run_there(address, chosen, None, options, results_dir, None, output)
    from kod_bench.sweeps.plan.frozen import edited_space
    from kod_bench.sweeps.plan.make import current_code
    from kod_bench.sweeps.store.donors import with_donors
    from kod_bench.sweeps.store.find import find_sweep
    from kod_bench.sweeps.store.ownership import is_own
    from kod_bench.sweeps.store.plugged import changed_plugins, check_trusted, permissions
    from kod_bench.sweeps.store.trust import with_confirmed_data

    found = find_sweep(sweep, parse_location(results_dir))
    check_trusted(found, extractor, plugin or [])
    found = with_confirmed_data(found, images_in(data_dir or []))
    found = with_donors(found, [_there(parse_location(each), "--reuse") for each in reuse or []])
    found = replace(found, permissions=permissions(found))
    teller(output)(f"resuming {found.shown}")
    if found.code != current_code():
        echo(
            f"warning: the sweep was planned by code {found.code}, this is {current_code()}; "
            "its rows say which one made them",
            err=True,
        )
    for before, now in changed_plugins(found):
        echo(
            f"warning: the sweep was planned with {before}, this is {now}; its rows say which one "
            "made them",
            err=True,
        )
    # Of a stranger's plan, not even whether the file that it names is there.
    if is_own(found) and (edited := edited_space(found)) is not None:
        echo(
            f"warning: {edited} has changed since this sweep was planned; the plan in sweep.yaml "
            "is what runs (for the changed one: kod-bench sweep)",
            err=True,
        )
    if found.rehearsal is not None:
        run_rehearsal(found, address, wait_for_nodes, output, share)
    else:
        run(found, address, wait_for_nodes, output, share)


def _reuse_there(named: Sequence[str]) -> list[str]:
    """The options `--reuse` for a command that runs on a cluster.

    Raises:
        UsageError: if one is a path that means something else there.
    """
    from kod_bench.sweeps.cluster.remote_driver import check_shared

    for each in named:
        if "/" in each:
            check_shared("--reuse", each)
    return [word for each in named for word in ("--reuse", each)]


def images_in(named: Sequence[str]) -> list[Location]:
    """What `--data-dir` names.

    Raises:
        UsageError: if one is of this machine, and nothing is there.
    """
    return [_there(parse_location(each)) for each in named]


def _confirm(name: str, yes: bool, output: "Output", space: "SearchSpace") -> None:
    """Say what a study for a cluster takes, and have it confirmed.

    Raises:
        UsageError: if nobody can be asked.
        typer.Exit: if the answer is no.
    """
    from kod_bench.sweeps.cost.announce import LARGE_PROFILE, announcement

    if space.profile != LARGE_PROFILE:
        return
    said = announcement(space)
    if yes:
        teller(output)(said)
    elif output != "auto" or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            f"{said}; --yes starts it (kod-bench sweep {name} --profile {LARGE_PROFILE} --dry-run "
            "measures how long that is)"
        )
    else:
        echo(said)
        if not typer.confirm("start it?"):
            raise typer.Exit(1)


def _there(location: Location, option: str = "--data-dir") -> Location:
    """Where something is that an option names, in full.

    Raises:
        UsageError: if it is of this machine, and nothing is there.
    """
    if not isinstance(location, Path):
        return location
    if not location.exists():
        raise UsageError(f"{option} {location}: does not exist")
    return location.absolute()


def _dry_run(
    space: "SearchSpace",
    data_dir: Location | None,
    timing: bool,
    output: "Output",
    reused: "Sequence[Sweep]",
    share: "Share",
) -> None:
    from rich.console import Console

    from kod_bench.sweeps.cost.dry_run import dry_run
    from kod_bench.sweeps.display.board import event_line

    found = dry_run(
        space, data_dir=data_dir, timing=timing, say=teller(output), reused=reused, share=share
    )
    if output == "json":
        echo(event_line("dry-run", **found.event()))
        return
    Console().print(found.table)
    for line in found.lines:
        echo(line)


def _parse_seeds(text: str) -> list[int]:
    parts = text.split(",")
    # `int` would take 1_0 for 10, and the digits of every script.
    are_numbers = all(re.fullmatch(r"\s*[0-9]{1,19}\s*", part) for part in parts)
    seeds = [int(part) for part in parts] if are_numbers else []
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {text!r}: must be distinct integers from 0, such as 0,1,2")
    return seeds
