"""Which plug-ins a trial is made with."""

from kod_bench.data import DATASETS
from kod_bench.diffusion import PROCESSES
from kod_bench.evaluation import find_installed
from kod_bench.plugins import Plugin, find_plugin


def needed_plugins(process: str, dataset: str, features: str) -> tuple[Plugin, ...]:
    """The plug-ins among a trial's process, data set and feature extractor; none is imported.

    Args:
        process: name of it.
        dataset: likewise.
        features: likewise.

    Raises:
        UsageError: if it is not known which plug-in is meant.
    """
    found = (
        find_plugin("process", process, PROCESSES),
        find_plugin("dataset", dataset, DATASETS),
        find_installed(features),
    )
    return tuple(plugin for plugin in found if plugin is not None)
