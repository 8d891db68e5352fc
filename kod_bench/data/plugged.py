"""What a package announces as a data set, checked before anything is made of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kod_bench.plugins import Plugin, PluginError

if TYPE_CHECKING:  # both are above: options ask here for their defaults
    from kod_bench.data.spec import DatasetSpec

#: Options whose defaults a data set has of its own, and what they are otherwise.
OWN_DEFAULTS: dict[str, Any] = {"view": "patches", "scale": 0.5, "color": "gray", "augment": ()}


@functools.cache
def plugged_spec(plugin: Plugin) -> DatasetSpec:
    """Import a plug-in's data set.

    Raises:
        PluginError: if it cannot be imported, or is no `DatasetSpec`.
    """
    from kod_bench.data.spec import DatasetSpec

    found = plugin.load()
    if not isinstance(found, DatasetSpec):
        raise PluginError(f"{plugin.shown}: {plugin.reference} is no DatasetSpec, but {found!r}")
    return found


@functools.cache
def plugged_defaults(plugin: Plugin) -> Mapping[str, Any]:
    """What a plug-in's data set has its options be where a search space leaves them out.

    Raises:
        PluginError: if it cannot be imported, or one of them is no option, or not allowed.
    """
    from kod_bench.data.options import DatasetOptions

    said = plugged_spec(plugin).defaults
    if unknown := sorted(set(said) - set(OWN_DEFAULTS)):
        raise PluginError(
            f"{plugin.shown}: has a default for {', '.join(unknown)}; allowed: "
            f"{', '.join(OWN_DEFAULTS)}"
        )
    # All of them given, so that none is asked for here again.
    try:
        options = DatasetOptions.model_validate(
            {"name": plugin.name, "image_size": 32, **OWN_DEFAULTS, **said}
        )
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise PluginError(f"{plugin.shown}: its default {first['loc'][0]}: {message}") from error
    return {name: getattr(options, name) for name in said}
