"""What a stranger's sweep may not do: run code or read images that its user has not named.

Plans, rows and histories are JSON, YAML and Parquet, and checkpoints are read without unpickling.
What is left is what a plan names: plug-ins, which are imported from what is installed, a feature
extractor, which is imported from the working folder (both in `plugged`), and where its images are,
which end in the report. A user's own plan (`ownership`) reads what it was
made with; of any other, both have to be named again.
"""

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kod_bench.data.options import FOLDER_PREFIX
from kod_bench.errors import UsageError
from kod_bench.storage import Location
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.store.ownership import is_own


def with_confirmed_data(sweep: Sweep, named: Sequence[Location]) -> Sweep:
    """The sweep, reading images only from where its user lets it.

    Args:
        sweep: about to be resumed.
        named: what the user has named: the folders or archives that the plan reads, or one that is
            to be read in place of its data folder. The images must be those of the plan all the
            same: their hash is in it.

    Returns:
        The sweep, with that data folder.

    Raises:
        UsageError: naming what the plan would read, if it is not the user's own and that was not
            confirmed. Nothing has been read then.
    """
    reads = _folders(sweep)
    if len(named) == 1 and not reads:
        sweep = replace(sweep, data_dir=named[0])
    wanted = [*reads, *([] if sweep.data_dir is None else [str(sweep.data_dir)])]
    given = {_same(str(each)) for each in named}
    missing = [each for each in wanted if _same(each) not in given]
    if not missing or is_own(sweep):
        return sweep
    options = " ".join(f"--data-dir {shlex.quote(each)}" for each in wanted)
    raise UsageError(
        f"{sweep.shown}: this plan was not made by you, or not here, and would read the images in "
        f"{' and in '.join(map(repr, wanted))}; to let it, add {options} (docs/trust.md)"
    )


def _folders(sweep: Sweep) -> list[str]:
    """Folders of images that data sets name themselves, those of trials to come included."""
    documents: list[Any] = [trial.dataset for trial in sweep.trials]
    if sweep.growth is not None:
        documents += [sweep.growth.resolved, *map(json.loads, sweep.growth.hashes)]
    found = (text for document in documents for text in _texts(document))
    return list(
        dict.fromkeys(
            text.removeprefix(FOLDER_PREFIX) for text in found if text.startswith(FOLDER_PREFIX)
        )
    )


def _texts(value: object) -> Iterator[str]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            waiting.extend(each.values())
        elif isinstance(each, list | tuple):
            waiting.extend(each)


def _same(place: str) -> str:
    """A place by which two ways of writing it can be compared."""
    return place.rstrip("/") if "://" in place else os.path.realpath(Path(place).expanduser())
