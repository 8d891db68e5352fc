"""The search spaces there are: what each studies, how large it is, what is wrong with it."""

from dataclasses import dataclass
from pathlib import Path

from kod_bench.errors import UsageError
from kod_bench.sweeps.plan.networks import check_networks, guessed_channels
from kod_bench.sweeps.space import (
    Document,
    SearchSpace,
    known_spaces,
    merge,
    read_profiles,
    resolve_space,
)
from kod_bench.sweeps.space.yaml_file import dump_yaml


@dataclass(frozen=True)
class SpaceSummary:
    """A search space at a glance.

    Attributes:
        path: the file.
        hidden: files of the same name that are not taken.
        description: the space's own.
        models: their names.
        trials: how many there are under each profile.
        problems: one line each; the other fields hold what could be read nevertheless.
    """

    path: Path
    hidden: tuple[Path, ...]
    description: str
    models: tuple[str, ...]
    trials: dict[str, int]
    problems: tuple[str, ...]


def all_spaces() -> list[SpaceSummary]:
    """Every space that has a name, valid or not."""
    return [summarise(path, tuple(hidden)) for path, *hidden in known_spaces().values()]


def summarise(path: Path, hidden: tuple[Path, ...] = ()) -> SpaceSummary:
    """Validate every profile of a space, networks included."""
    problems: list[str] = []
    spaces: list[SearchSpace] = []
    try:
        base, profiles = read_profiles(path)
    except UsageError as error:
        return SpaceSummary(path, hidden, "", (), {}, (str(error),))
    for name, overrides in profiles.items():
        try:
            space = resolve_space(Document.of(str(path), base, name, overrides, {}))
            check_networks(space, guessed_channels(space))
            spaces.append(space)
        except UsageError as error:
            problems.append(str(error))
    models = dict.fromkeys(variant.model for space in spaces for variant in space.variants)
    return SpaceSummary(
        path,
        hidden,
        spaces[0].options.description if spaces else "",
        tuple(models),
        {space.profile: len(space.variants) * len(space.options.seeds) for space in spaces},
        tuple(dict.fromkeys(problems)),  # what all profiles share is wrong once
    )


def resolved_yaml(space: SearchSpace) -> str:
    """One profile of a space as a space of its own, with the defaults of its sections."""
    said = space.options.model_dump(mode="json", exclude_none=True)
    document = {key: value for key, value in merge(said, space.document).items() if value != {}}
    return dump_yaml(document, width=90, default_flow_style=None)
