"""What a package announces as a data set, checked before anything is made of it."""

import functools

from kod_bench.data.spec import DatasetSpec
from kod_bench.plugins import Plugin, PluginError


@functools.cache
def plugged_spec(plugin: Plugin) -> DatasetSpec:
    """Import a plug-in's data set.

    Raises:
        PluginError: if it cannot be imported, or is no `DatasetSpec`.
    """
    found = plugin.load()
    if not isinstance(found, DatasetSpec):
        raise PluginError(f"{plugin.shown}: {plugin.reference} is no DatasetSpec, but {found!r}")
    return found
