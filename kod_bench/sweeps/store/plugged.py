"""What a plan names that is not this package's: whether its user lets `resume` import it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from kod_bench.data import DATASETS
from kod_bench.data.options import FOLDER_PREFIX
from kod_bench.diffusion import PROCESSES
from kod_bench.errors import UsageError
from kod_bench.evaluation import find_installed, is_reference, is_users_code
from kod_bench.plugins import WORDS, Kind, Plugin, find_plugin
from kod_bench.sweeps.plan.needed_plugins import needed_plugins
from kod_bench.sweeps.plan.sweep import Sweep

_BUILT_IN: dict[Kind, Collection[str]] = {"process": PROCESSES, "dataset": DATASETS}


def check_trusted(sweep: Sweep, extractor: str | None, plugins: Sequence[str] = ()) -> None:
    """Refuse a plan that names code, unless its user has named the same.

    Args:
        sweep: about to be resumed.
        extractor: what the user lets it import from the working folder.
        plugins: names of plug-ins, or of their packages, that the user lets it import.

    Raises:
        UsageError: naming what is not allowed, or not installed.
    """
    for kind, name in _foreign(sweep):
        plugin = _find(kind, name)
        if plugin is not None:
            allowed = {*plugins, *([extractor] if extractor and kind == "extractor" else [])}
            if not allowed & {plugin.name, plugin.package}:
                raise UsageError(
                    f"{sweep.shown}: its plan imports {plugin.shown}; if you know that code and "
                    f"trust it, add --plugin {plugin.package}"
                )
        elif kind == "extractor" and is_reference(name):
            if name != extractor:
                raise UsageError(
                    f"{sweep.shown}: its plan imports the feature extractor {name!r}; if you know "
                    f"that code and trust it, add --extractor {name}"
                )
        else:
            raise UsageError(
                f"{sweep.shown}: its plan needs {WORDS[kind]} {name!r}, which is not built in, "
                f"and no installed package has one{_was_of(sweep, kind, name)}"
            )


def permissions(sweep: Sweep) -> tuple[str, ...]:
    """Options of `resume` that let a sweep import what it names; for one that its user trusts."""
    words = []
    for kind, name in _foreign(sweep):
        plugin = _find(kind, name)
        words.append(("--extractor", name) if plugin is None else ("--plugin", plugin.package))
    return tuple(word for pair in dict.fromkeys(words) for word in pair)


def changed_plugins(sweep: Sweep) -> list[tuple[str, str]]:
    """What was planned, and what is installed, of each plug-in that is another by now."""
    changed: dict[tuple[str, str], None] = {}
    for trial in sweep.trials:
        if not trial.plugins:
            continue
        names = (trial.process, trial.dataset["name"], trial.evaluation["features"])
        now = {(each.kind, each.name): each.identity() for each in needed_plugins(*names)}
        for planned in trial.plugins:
            here = now.get((planned.get("kind"), planned.get("name")))  # type: ignore[arg-type]
            if here is not None and here != planned:
                changed[_version(planned), _version(here)] = None
    return list(changed)


def _version(identity: Mapping[str, Any]) -> str:
    kind, *said = (identity.get(key) for key in ("kind", "name", "package", "version", "source"))
    return "{} {!r} of {} {}+{}".format(WORDS.get(kind, "plug-in"), *said)  # type: ignore[arg-type]


def _find(kind: Kind, name: str) -> Plugin | None:
    return find_installed(name) if kind == "extractor" else find_plugin(kind, name, _BUILT_IN[kind])


def _foreign(sweep: Sweep) -> list[tuple[Kind, str]]:
    """Everything that a plan names and that is not this package's, once."""
    found: dict[tuple[Kind, str], None] = {}
    for kind, name in _named(sweep):
        if kind == "extractor":
            own = not is_users_code(name)
        else:
            # Also where a plug-in of the same name has it refused.
            own = name in _BUILT_IN[kind] or (kind == "dataset" and name.startswith(FOLDER_PREFIX))
        if not own:
            found[kind, name] = None
    return list(found)


def _named(sweep: Sweep) -> Iterator[tuple[Kind, str]]:
    for trial in sweep.trials:
        yield "process", str(trial.process)
        yield "dataset", str(trial.dataset.get("name"))
        yield "extractor", str(trial.evaluation.get("features"))
    if sweep.growth is not None:  # of the trials to come
        yield "extractor", str(sweep.growth.evaluation.get("features"))
        resolved = sweep.growth.resolved
        models = resolved.get("models")
        sections = list(models.values()) if isinstance(models, Mapping) else []
        for section in (resolved, *sections):
            if isinstance(section, Mapping):
                yield from (("process", name) for name in _names(section.get("process")))
                dataset = section.get("dataset")
                if isinstance(dataset, Mapping):
                    yield from (("dataset", name) for name in _names(dataset.get("name")))


def _names(value: Any) -> Iterator[str]:
    """A value, or the values of an axis, as far as they are text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        # A condition names keys of the model, whose values are no data sets.
        yield from (text for key, each in value.items() if key != "when" for text in _names(each))
    elif isinstance(value, list):
        yield from (text for each in value for text in _names(each))


def _was_of(sweep: Sweep, kind: Kind, name: str) -> str:
    """Which package it was planned with, if the plan says so."""
    for trial in sweep.trials:
        for each in trial.plugins:
            if (each.get("kind"), each.get("name")) == (kind, name):
                return f"; it was planned with {each.get('package')!s} {each.get('version')!s}"
    return ""
