"""``kod-bench spaces``: which search spaces there are, what one says, whether it is valid."""

from typing import Annotated

import typer

from kod_bench.cli.options import Changes, SpaceName

spaces_app = typer.Typer(
    name="spaces",
    help="Search spaces: list what there is, show one resolved, validate one or all.",
    no_args_is_help=True,
)


@spaces_app.command("list")
def list_spaces() -> None:
    """List the search spaces that have a name, how large each is, and where it is."""
    from kod_bench.sweeps.plan.catalogue import all_spaces

    for space in all_spaces():
        trials = ", ".join(f"{profile} {count}" for profile, count in space.trials.items())
        hidden = "".join(f"; hides {path}" for path in space.hidden)
        typer.echo(f"{space.path.stem}  {space.description}".rstrip())
        if space.models:
            typer.echo(f"  models   {', '.join(space.models)}\n  trials   {trials}")
        typer.echo(f"  file     {space.path}{hidden}")
        for problem in space.problems:
            typer.echo(f"  problem  {problem}")


@spaces_app.command()
def show(
    space: SpaceName,
    profile: Annotated[str | None, typer.Option(help="One of its profiles; default: all.")] = None,
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
        typer.echo(
            f"# {path}, profile {found.profile}: {len(found.variants) * seeds} trials, "
            f"{len(found.variants)} configurations with {seeds} seed{'s' * (seeds > 1)}"
        )
        typer.echo(resolved_yaml(found))


@spaces_app.command()
def validate(
    spaces: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME_OR_YAML]...", help="Search spaces; default: all known."),
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
            typer.echo(f"error: {problem}", err=True)
        if not space.problems:
            trials = ", ".join(f"{profile} {count}" for profile, count in space.trials.items())
            typer.echo(f"{space.path}: valid; trials: {trials}")
    if any(space.problems for space in found):
        raise typer.Exit(2)
