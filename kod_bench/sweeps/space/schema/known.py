"""What a schema names: the processes, data sets and extractors known where it is made."""

from collections.abc import Mapping

from kod_bench.data.options import DATASET_NAMES
from kod_bench.diffusion import PROCESSES, DiffusionProcess
from kod_bench.evaluation.extractors import AUTO, EXTRACTORS


def known_processes() -> Mapping[str, type[DiffusionProcess]]:
    """Every process by the name that a search space says."""
    return PROCESSES


def known_datasets() -> tuple[str, ...]:
    """The names of data sets, beside folders."""
    return tuple(DATASET_NAMES)


def known_extractors() -> tuple[str, ...]:
    """The names of feature extractors, beside the user's own classes."""
    return (AUTO, *EXTRACTORS)
