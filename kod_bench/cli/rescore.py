"""`kod-bench rescore`: score the trained models of a sweep in other ways."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from kod_bench.cli.options import (
    DEFAULT_RESULTS,
    Extractor,
    ResultsDir,
    SweepImages,
    SweepName,
    SweepPlugins,
)
from kod_bench.cli.report import Conditions, read_sweep
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
from kod_bench.cli.sweep import images_in
from kod_bench.errors import UsageError
from kod_bench.storage import parse_location

if TYPE_CHECKING:
    from kod_bench.sweeps.plan.sweep import Sweep


def rescore(
    sweep: SweepName = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Change a key of evaluation or resources, e.g. evaluation.features=inception; may "
            "be repeated.",
        ),
    ] = None,
    samplers: Annotated[
        str | None, typer.Option(metavar="A,B", help="In place of the models' own.")
    ] = None,
    network_evaluations: Annotated[
        str | None, typer.Option(metavar="N,M", help="Likewise, e.g. 10,20,50.")
    ] = None,
    priors: Annotated[str | None, typer.Option(metavar="A,B", help="Likewise.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Only models of this name, e.g. 'kod*'; repeatable."),
    ] = None,
    where: Conditions = None,
    results_dir: ResultsDir = DEFAULT_RESULTS,
    address: Address = None,
    wait_for_nodes: WaitForNodes = 0.0,
    cpus: Cpus = None,
    gpus: Gpus = None,
    extractor: Extractor = None,
    plugin: SweepPlugins = None,
    data_dir: SweepImages = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Score a sweep's trained models again, in other ways; train nothing, draw what is missing."""
    output = choose_output(quiet, json)
    share = share_of(cpus, gpus, address)
    evaluations = _names("--network-evaluations", network_evaluations, numbers=True)
    ways = {
        "priors": _names("--priors", priors),
        "samplers": _names("--samplers", samplers),
        "network_evaluations": None if evaluations is None else tuple(map(int, evaluations)),
    }
    if address is not None and is_client(address):
        options = ["--wait-for-nodes", str(wait_for_nodes)]
        for name, said in (
            ("--samplers", samplers),
            ("--network-evaluations", network_evaluations),
            ("--priors", priors),
            ("--extractor", extractor),
        ):
            options += [name, said] if said else []
        for name, several in (
            ("--set", changes),
            ("--model", model),
            ("--where", where),
            ("--plugin", plugin),
            ("--data-dir", data_dir),
        ):
            options += [word for each in several or [] for word in (name, each)]
        command = ["rescore", *([sweep] if sweep else [])]
        run_there(address, command, None, options, results_dir, None, output)
    from kod_bench.reports.filters import check_conditions
    from kod_bench.sweeps.plan.rescoring import Rescoring, is_chosen
    from kod_bench.sweeps.session import prepare_rescore
    from kod_bench.sweeps.store.find import find_sweep
    from kod_bench.sweeps.store.plugged import check_trusted
    from kod_bench.sweeps.store.trust import with_confirmed_data

    check_conditions(where or [])
    rescoring = Rescoring.of(changes or [], **ways)
    parent = find_sweep(sweep, parse_location(results_dir))
    check_trusted(parent, extractor, plugin or [])
    parent = with_confirmed_data(parent, images_in(data_dir or []))
    teller(output)(f"rescoring {parent.shown}")
    kept = _meeting(parent, where or [])
    prepared = prepare_rescore(
        parent,
        rescoring,
        lambda trial: is_chosen(trial, model or []) and (kept is None or trial.id in kept),
        results_dir=parse_location(results_dir),
        address=address,
        say=teller(output),
        share=share,
    )
    run(prepared, address, wait_for_nodes, output, share)
    if output == "auto":
        echo(f"with the rows before: kod-bench report {parent.shown} {prepared.shown}")


def _meeting(sweep: "Sweep", conditions: list[str]) -> frozenset[str] | None:
    """The trials of a sweep with rows that meet all conditions; None: no matter which."""
    if not conditions:
        return None
    from kod_bench.reports.filters import filter_rows

    rows = filter_rows(read_sweep(sweep)[0].rows, (), conditions)
    return frozenset(map(str, rows["trial"]))


def _names(option: str, said: str | None, numbers: bool = False) -> tuple[str, ...] | None:
    """What an option lists, once each.

    Raises:
        UsageError: if it is no list of names, or of whole numbers from 1.
    """
    if said is None:
        return None
    found = tuple(dict.fromkeys(part.strip() for part in said.split(",")))
    if numbers and not all(re.fullmatch(r"[1-9][0-9]{0,8}", each) for each in found):
        raise UsageError(f"{option} {said!r}: must be whole numbers from 1, such as 10,20,50")
    if not all(found):
        raise UsageError(f"{option} {said!r}: must be names, separated by commas")
    return found
