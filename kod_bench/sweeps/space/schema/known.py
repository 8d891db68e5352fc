"""What a schema names: the processes, data sets and extractors known where it is made."""

import contextlib
from collections.abc import Mapping

from kod_bench.data import dataset_names
from kod_bench.diffusion import DiffusionProcess, find_process, process_names
from kod_bench.evaluation.extractors import AUTO, EXTRACTORS
from kod_bench.plugins import PluginError, plugin_names


def known_processes() -> Mapping[str, type[DiffusionProcess]]:
    """Every process by the name that a search space says; of plug-ins, those that can be made."""
    found = {}
    for name in process_names():
        with contextlib.suppress(PluginError):  # whoever names it in a space is told why
            found[name] = find_process(name)
    return found


def known_datasets() -> tuple[str, ...]:
    """The names of data sets, beside folders."""
    return dataset_names()


def known_extractors() -> tuple[str, ...]:
    """The names of feature extractors, beside the user's own classes."""
    return (AUTO, *EXTRACTORS, *plugin_names("extractor", EXTRACTORS))
