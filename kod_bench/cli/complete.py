"""What a shell completes: names of spaces, profiles, sweeps, models and trials.

Only files are looked at, and nothing heavy is imported: whoever presses Tab waits. What cannot be
read is left out without a word, since a message would land in the middle of the line.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from kod_bench.storage import is_uri
from kod_bench.visible import is_visible, visible

#: A word, and what there is to say of it.
Word = tuple[str, str]
Complete = Callable[[typer.Context, str], list[Word]]

#: A plan of more bytes is not looked into: reading it would take longer than typing the name.
_LARGEST_PLAN = 2**20
_DESCRIPTION = re.compile(r"^description[ \t]*:[ \t]*(.+)$", re.MULTILINE)


def _robust(words: Callable[[typer.Context], Iterable[Word]]) -> Complete:
    """A completion of those words that begin as the one that is typed; of none, if it fails."""

    def complete(ctx: typer.Context, incomplete: str) -> list[Word]:
        try:
            found = (word for word in words(ctx) if word[0].startswith(incomplete))
            # Shells print what they offer: a name that acts on the terminal is not offered.
            return [(name, visible(said, keep="")) for name, said in found if is_visible(name)]
        except Exception:
            # No traceback may reach the line that is being typed.
            return []

    return complete


@_robust
def complete_spaces(ctx: typer.Context) -> Iterator[Word]:
    """The search spaces that have a name, each with its description."""
    from kod_bench.sweeps.space.files import known_spaces

    given = _given(ctx, "spaces")
    for name, (path, *_) in known_spaces().items():
        if name not in given:
            yield name, _description(path)


@_robust
def complete_profiles(ctx: typer.Context) -> Iterator[Word]:
    """The profiles of the search space that is named before; without one, the usual ones."""
    from kod_bench.sweeps.space.files import find_space

    if ctx.parent is None or ctx.parent.info_name != "spaces":  # which shows all of them
        yield "auto", "workstation where there is a GPU, else laptop"
    space = _given(ctx, "space")
    if not space:
        yield from (("laptop", ""), ("workstation", ""), ("cluster", ""))
        return
    profiles = _yaml(find_space(space[0])).get("profiles", {"default": {}})
    yield from ((str(name), "") for name in profiles)


@_robust
def complete_sweeps(ctx: typer.Context) -> Iterator[Word]:
    """The sweeps of the results folder: their spaces' names, then their own, the newest first."""
    if (column := _condition_begun(ctx)) is not None:
        yield from _values_of(column, ctx)
        return
    yield from _sweeps(ctx)


@_robust
def complete_sides(ctx: typer.Context) -> Iterator[Word]:
    """What can be compared: models of the sweep, and sweeps; `published` as the second."""
    if ctx.params.get("first"):
        yield "published", "numbers of the papers"
    for model in _models(ctx):
        yield model, "a model"
    yield from _sweeps(ctx)


@_robust
def complete_conditions(ctx: typer.Context) -> Iterator[Word]:
    """Conditions on rows that name a model or a trial."""
    for column in ("model", "trial"):
        for value, said in _values_of(column, ctx):
            yield f"{column}={value}", said


# What lies in the results folder.


def _results(ctx: typer.Context) -> Path | None:
    """The results folder, if it is on this machine."""
    named = str(ctx.params["results_dir"])
    return None if is_uri(named) else Path(named).expanduser()


def _plans(ctx: typer.Context) -> list[Path]:
    """The plans of all sweeps, the newest first."""
    folder = _results(ctx)
    found = [] if folder is None else folder.glob("*/*/sweep.yaml")
    return sorted(found, key=lambda plan: plan.parent.name, reverse=True)


def _sweeps(ctx: typer.Context) -> Iterator[Word]:
    plans, given = _plans(ctx), _given(ctx, "sweeps")
    spaces = dict.fromkeys(plan.parent.parent.name for plan in plans)
    words = [(name, "the newest sweep of this space") for name in spaces]
    words += [(plan.parent.name, f"a sweep of {plan.parent.parent.name}") for plan in plans]
    yield from ((name, said) for name, said in words if name not in given)


def _plan(ctx: typer.Context) -> Path | None:
    """The plan of the sweep that is named before, else of the newest."""
    plans = _plans(ctx)
    names = [*_given(ctx, "sweep"), *_given(ctx, "sweeps")]
    if (name := next((each for each in names if each != "="), None)) is None:
        return plans[0] if plans else None
    if (path := Path(name).expanduser() / "sweep.yaml").is_file():
        return path
    for plan in plans:
        space, sweep = plan.parts[-3:-1]
        if name in (space, sweep, f"{space}/{sweep}"):
            return plan
    return None


def _models(ctx: typer.Context) -> list[str]:
    """The models of the sweep, as its search space names them."""
    plan = _plan(ctx)
    if plan is None or plan.stat().st_size > _LARGEST_PLAN:
        return []
    return [str(name) for name in _yaml(plan)["resolved"]["models"]]


def _trials(ctx: typer.Context) -> list[str]:
    """The trials of the sweep that have begun."""
    plan = _plan(ctx)
    return [] if plan is None else sorted(p.name for p in plan.parent.glob("trials/*"))


def _values_of(column: str, ctx: typer.Context) -> list[Word]:
    """What a column of the rows can be."""
    if column == "model":
        return [(name, "a model") for name in _models(ctx)]
    return [(name, "a trial") for name in _trials(ctx)] if column == "trial" else []


def _condition_begun(ctx: typer.Context) -> str | None:
    """The column of ``--where COLUMN=``: Bash takes the equals sign for a word of its own."""
    conditions = ctx.params.get("where") or ()
    if not conditions or "=" in str(conditions[-1]):
        return None
    return str(conditions[-1]) if _given(ctx, "sweeps")[-1:] == ["="] else None


# Files.


def _given(ctx: typer.Context, parameter: str) -> list[str]:
    """What the line says already for a parameter, one word or several."""
    if found := ctx.params.get(parameter):
        return [str(word) for word in found] if isinstance(found, list | tuple) else [str(found)]
    # Where an option's value is what is completed, the line's arguments have not been assigned.
    arguments = [p.name for p in ctx.command.params if p.param_type_name == "argument"]
    return list(ctx.args) if arguments[:1] == [parameter] else []


def _description(space: Path) -> str:
    try:
        if not space.is_file():  # opening a named pipe would wait for ever
            return ""
        found = _DESCRIPTION.search(space.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    return found[1].strip("\"' ") if found else ""


def _yaml(path: Path) -> dict[str, Any]:
    from kod_bench.sweeps.space.yaml_file import load_yaml

    return load_yaml(path)
