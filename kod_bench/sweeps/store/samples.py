"""A trial's stored samples on an object store, and which of them stay when the trial is done.

Each shard is put on the store as soon as it is drawn: whatever node goes on with the trial fetches
what is there, and draws the rest.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from kod_bench.errors import one_line
from kod_bench.sampling import MANIFEST_FILE, shard_index
from kod_bench.storage import ObjectFolder, StoredObject
from kod_bench.sweeps.plan.files import SAMPLES
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial

_log = logging.getLogger(__name__)


def fetch_shards(
    sweep: Sweep, trial: Trial, way: str, names: Iterable[str]
) -> Mapping[str, StoredObject]:
    """Fetch shards of a way that another node may have drawn; those that are not there are not.

    Returns:
        What the store has of the way, by name; nothing without a store.

    Raises:
        OSError: if the store cannot be reached.
    """
    if sweep.remote is None:
        return {}
    there = _store(sweep.remote, trial) / way
    listed = there.list()
    wanted = listed.keys() & set(names)
    there.download(wanted, sweep.trial_folder(trial) / SAMPLES / way, missing_ok=True)
    return listed


def list_shards(sweep: Sweep, trial: Trial, way: str) -> Mapping[str, StoredObject]:
    """What the store has of a way, by name; nothing without a store.

    Raises:
        OSError: if the store cannot be reached.
    """
    return {} if sweep.remote is None else (_store(sweep.remote, trial) / way).list()


def fetch_file(sweep: Sweep, trial: Trial, way: str, name: str) -> None:
    """Fetch one file of a way, if another node has put it on the store; log it if that fails."""
    if sweep.remote is None:
        return
    there = _store(sweep.remote, trial) / way
    try:
        there.download([name], sweep.trial_folder(trial) / SAMPLES / way, missing_ok=True)
    except OSError as error:
        _log.warning("%s: %s could not be fetched: %s", there, name, one_line(error))


def put_files(sweep: Sweep, trial: Trial, names: Iterable[str]) -> None:
    """Put files of a trial's folder on the store, in this order; log it if that fails.

    A store that is away does not end a sampling: what is not there is drawn again elsewhere.
    """
    if sweep.remote is None:
        return
    there = sweep.remote / "trials" / trial.id
    try:
        for name in names:
            there.upload([name], sweep.trial_folder(trial))
    except OSError as error:
        _log.warning("%s: samples could not be put on the store: %s", there, one_line(error))


def count_shards(sweep: Sweep, trial: Trial) -> dict[str, int]:
    """How many shards there are of each way, by their names alone.

    Raises:
        OSError: if the store cannot be reached.
    """
    found: dict[str, int] = {}
    for way, name in _shards(sweep, trial):
        if shard_index(name) is not None:
            found[way] = found.get(way, 0) + 1
    return found


def drop_shards(sweep: Sweep, trial: Trial, keeps: Callable[[int], bool]) -> None:
    """Remove shards of a finished trial, here and on the store. Manifests stay.

    Args:
        sweep: of the trial.
        trial: that is done.
        keeps: by a shard's number, whether it stays.

    Raises:
        OSError: if the store cannot be reached, or refuses.
    """

    def goes(name: str) -> bool:
        index = shard_index(name)
        return name != MANIFEST_FILE and (index is None or not keeps(index))

    folder = sweep.trial_folder(trial) / SAMPLES
    for way, name in _files(folder):
        if goes(name):
            (folder / way / name).unlink(missing_ok=True)
    if sweep.remote is not None:
        there = _store(sweep.remote, trial)
        for path in there.list():
            if goes(path.rpartition("/")[2]):
                there.delete(path)


def _shards(sweep: Sweep, trial: Trial) -> Iterator[tuple[str, str]]:
    if sweep.remote is None:
        yield from _files(sweep.trial_folder(trial) / SAMPLES)
        return
    for path in _store(sweep.remote, trial).list():
        way, _, name = path.partition("/")
        yield way, name


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """(way, name) of every file of a folder of samples."""
    if folder.is_dir():
        for way in sorted(folder.iterdir()):
            if way.is_dir() and not way.is_symlink():
                yield from ((way.name, path.name) for path in way.iterdir())


def _store(remote: ObjectFolder, trial: Trial) -> ObjectFolder:
    return remote / "trials" / trial.id / SAMPLES
