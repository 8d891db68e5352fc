"""The rows of thousands of row files in one file beside the report, for the next report.

A row file is opened in one or two milliseconds: nothing for hundreds of trials, minutes for a
hundred thousand. They are never written again, so what was read of one stays true as long as its
size and time do.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kod_bench.atomic import atomic_write
from kod_bench.inside import MOST_CACHE, open_file
from kod_bench.reports.frame import BATCH, COLUMNS, Collector, ReadFrame, in_order, read_frame
from kod_bench.results import is_sound

#: With fewer row files there is nothing to gain.
FEWEST_FILES = 500

_KEY = "row_file"
_SCHEMA = pa.schema([*(f.with_nullable(True) for f in COLUMNS), pa.field(_KEY, pa.string())])


def read_cached(paths: Sequence[Path], cache: Path) -> ReadFrame:
    """What `read_frame` reads, in another order; what was read before, from the cache.

    The cache is written if there are row files that it lacks. One that is broken, is of another
    version or cannot be written costs time and nothing else.

    Args:
        paths: of row files, ``<trial>/<file>``.
        cache: a Parquet file.
    """
    if len(paths) < FEWEST_FILES:
        return read_frame(paths)
    try:
        return _read_both(paths, cache)
    except _BrokenCacheError:
        with contextlib.suppress(OSError):
            cache.unlink()
        return read_frame(paths)


class _BrokenCacheError(Exception):
    pass


def _read_both(paths: Sequence[Path], cache: Path) -> ReadFrame:
    keys = {_key(path): path for path in paths}
    known = keys.keys() & _keys_in(cache)
    collector = Collector()
    unreadable: list[Path] = []
    missing = [path for key, path in keys.items() if key not in known]

    def tables() -> Iterator[pa.Table]:
        if known:
            yield from _kept(cache, known)
        for path, found in in_order(missing):
            if found is None:
                unreadable.append(path)
            else:
                key = _key(path)
                for table in found:
                    yield table.append_column(_KEY, pa.array([key] * len(table), pa.string()))

    def collected() -> Iterator[pa.Table]:
        for table in tables():
            collector.add([table.drop_columns([_KEY])])
            yield table

    every = collected()
    if missing:
        with contextlib.suppress(OSError):
            _write(cache, every)
    for _ in every:  # what was not written has to be read all the same
        pass
    found = collector.finish()
    found.unreadable = unreadable
    return found


def _key(path: Path) -> str:
    """What changes if the file does."""
    try:
        stat = path.stat()
    except OSError:
        return str(path)  # it will turn out to be unreadable
    return f"{path.parent.name}/{path.name} {stat.st_size} {stat.st_mtime_ns}"


def _keys_in(cache: Path) -> set[str]:
    try:
        with open_file(cache, MOST_CACHE) as whole, pq.ParquetFile(whole) as file:
            if not file.schema_arrow.equals(_SCHEMA):
                return set()
            keys = file.read(columns=[_KEY])
            keys.validate(full=True)
            return set(pc.unique(keys[_KEY]).to_pylist())
    except (OSError, pa.ArrowException, ValueError):
        return set()


def _kept(cache: Path, keys: set[str]) -> Iterator[pa.Table]:
    wanted = pa.array(sorted(keys), pa.string())
    try:
        with open_file(cache, MOST_CACHE) as whole, pq.ParquetFile(whole) as file:
            for batch in file.iter_batches(batch_size=BATCH, use_threads=False):
                table = pa.Table.from_batches([batch])
                table.validate(full=True)
                if not is_sound(table, table.column_names, may_lack=True):
                    raise _BrokenCacheError
                yield table.filter(pc.is_in(table[_KEY], wanted))
    except (OSError, pa.ArrowException, ValueError) as error:
        raise _BrokenCacheError from error


def _write(cache: Path, tables: Iterator[pa.Table]) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(cache) as file, pq.ParquetWriter(file, _SCHEMA) as writer:
        waiting: list[pa.Table] = []
        for table in tables:
            waiting.append(table)
            if sum(map(len, waiting)) >= BATCH:
                writer.write_table(_whole(waiting))
                waiting = []
        if waiting:
            writer.write_table(_whole(waiting))


def _whole(tables: Sequence[pa.Table]) -> pa.Table:
    table = pa.concat_tables(tables, promote_options="default")
    return pa.table(
        {
            field.name: table[field.name]
            if field.name in table.column_names
            else pa.nulls(len(table), field.type)
            for field in _SCHEMA
        },
        schema=_SCHEMA,
    )
