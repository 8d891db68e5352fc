"""``kod-bench spaces``: which search spaces there are, whether one is valid, how to begin one."""

from pathlib import Path
from typing import Annotated

import typer

from kod_bench.cli.complete import complete_profiles, complete_spaces
from kod_bench.cli.options import Changes, SpaceName, expand_path
from kod_bench.cli.say import echo

spaces_app = typer.Typer(
    name="spaces",
    help="Search spaces: list what there is, show one resolved, validate, begin a new one.",
    no_args_is_help=True,
)


@spaces_app.command("list")
def list_spaces() -> None:
    """List the search spaces that have a name, how large each is, and where it is."""
    from kod_bench.sweeps.plan.catalogue import all_spaces

    for space in all_spaces():
        trials = ", ".join(f"{profile} {count}" for profile, count in space.trials.items())
        hidden = "".join(f"; hides {path}" for path in space.hidden)
        echo(f"{space.path.stem}  {space.description}".rstrip())
        if space.models:
            echo(f"  models   {', '.join(space.models)}\n  trials   {trials}")
        echo(f"  file     {space.path}{hidden}")
        for problem in space.problems:
            echo(f"  problem  {problem}")


@spaces_app.command()
def show(
    space: SpaceName,
    profile: Annotated[
        str | None,
        typer.Option(help="One of its profiles; default: all.", autocompletion=complete_profiles),
    ] = None,
    changes: Changes = None,
) -> None:
    """Show a search space as each profile resolves it, with the defaults of its sections."""
    from kod_bench.sweeps.plan.catalogue import resolved_yaml
    from kod_bench.sweeps.space import find_space, load_space, read_profiles

    path = find_space(space)
    names = [profile] if profile is not None else list(read_profiles(path)[1])
    for name in names:
        found = load_space(path, name, changes=changes or [])
        seeds = len(found.options.seeds)
        echo(
            f"# {path}, profile {found.profile}: {len(found.variants) * seeds} trials, "
            f"{len(found.variants)} configurations with {seeds} seed{'s' * (seeds > 1)}"
        )
        echo(resolved_yaml(found))


@spaces_app.command()
def validate(
    spaces: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME_OR_YAML]...",
            help="Search spaces; default: all known.",
            autocompletion=complete_spaces,
        ),
    ] = None,
) -> None:
    """Validate every profile of search spaces: one line per problem, and status 2 if there is one.

    Checks all that needs neither the images nor the machine: keys, types, ranges, every point of
    every model, and that the networks can be built.
    """
    from kod_bench.sweeps.plan.catalogue import all_spaces, summarise
    from kod_bench.sweeps.space import find_space

    found = [summarise(find_space(name)) for name in spaces] if spaces else all_spaces()
    for space in found:
        for problem in space.problems:
            echo(f"error: {problem}", err=True)
        if not space.problems:
            trials = ", ".join(f"{profile} {count}" for profile, count in space.trials.items())
            echo(f"{space.path}: valid; trials: {trials}")
    if any(space.problems for space in found):
        raise typer.Exit(2)


@spaces_app.command()
def schema(
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", callback=expand_path, help="Write it there; default: print it."
        ),
    ] = None,
) -> None:
    """Write the JSON Schema of search spaces, by which editors complete, explain and check them.

    It has the processes of installed plug-ins, which the shipped one does not know.
    """
    from kod_bench.atomic import atomic_write
    from kod_bench.errors import UsageError
    from kod_bench.sweeps.space.schema import schema_text

    if output is None:
        echo(schema_text(), nl=False)
        return
    try:
        with atomic_write(output) as file:
            file.write(schema_text().encode())
    except OSError as error:
        raise UsageError(f"--output {output}: {error.strerror}") from error


@spaces_app.command()
def new(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Of the space; its file is search_spaces/NAME.yaml."),
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME_OR_YAML",
            help="Copy this space; default: a template.",
            autocompletion=complete_spaces,
        ),
    ] = None,
) -> None:
    """Write a commented search space to start from, and say what to type next."""
    from kod_bench.errors import UsageError
    from kod_bench.sweeps.plan.catalogue import summarise
    from kod_bench.sweeps.space import find_space, known_spaces
    from kod_bench.sweeps.space.new import SCHEMA_FILE, write_space

    original = None if source is None else find_space(source)
    if original is not None and (problems := summarise(original).problems):
        raise UsageError(f"--from {source} is not valid: {problems[0]}")
    hidden = known_spaces().get(name, [])
    path = write_space(name, original)
    trials = ", ".join(f"{key} {count}" for key, count in summarise(path).trials.items())
    echo(f"{path}: written, valid")
    echo(f"trials: {trials}")
    if hidden:
        echo(f"note: it hides {hidden[0]}")
    echo(
        f"editors check it by {path.parent / SCHEMA_FILE}\n"
        "\n"
        "next:\n"
        f"  edit {path}\n"
        f"  kod-bench spaces validate {name}\n"
        f"  kod-bench sweep {name} --dry-run    # what it trains, and what that costs here\n"
        f"  kod-bench sweep {name}"
    )
