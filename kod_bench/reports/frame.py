"""Rows as a table in memory, small enough for hundreds of thousands of them.

The resolved configuration is most of a row, and nearly the same in all: here it becomes a hash of
what two seeds of one trial share (`configuration`), and the text is kept once per hash, for the
first `MOST_CONFIGURATIONS` of them. Texts that repeat are categories.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kod_bench.results import SCHEMA, Row

#: Columns that rows may have beside those of `Row`, from versions that stop trials early.
_EXTRA = pa.schema([pa.field("pruned_at", pa.int64())])
COLUMNS = pa.schema([*SCHEMA, *(f for f in _EXTRA if f.name not in SCHEMA.names)])

MOST_CONFIGURATIONS = 2_000

#: Each distinct in most rows: as categories they would take more.
_PLAIN_TEXT = ("trial", "config", "config_hash", "finished_at")
_BATCH = 8_192
_THREADS = 4

#: What differs between seeds, and what says how samples were drawn, which has columns of its own.
#: A configuration is JSON with sorted keys.
_CODE = re.compile(r'^\{"code": "[^"]*"(?:, )?')
_SAMPLING_AND_SEED = re.compile(r'"sampling": \[[^\]]*\], "seed": \d+(?:, )?')


@dataclass
class ReadFrame:
    """Rows of row files.

    Attributes:
        rows: a line per row; `COLUMNS` without `config`, and `configuration`.
        configurations: by hash.
        unreadable: files that cannot be read.
    """

    rows: pd.DataFrame
    configurations: dict[str, str]
    unreadable: list[Path] = field(default_factory=list)


def frame_of(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows that are in memory already."""
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)
    return _Collector().add(table).finish().rows


def read_frame(paths: Iterable[Path]) -> ReadFrame:
    """Read row files, or Parquet files of many rows, in batches.

    Columns that a file lacks, from an older version, are empty; those that nobody knows are left
    out. A file that is no Parquet, or whose columns have other types, counts as unreadable.
    """
    collector = _Collector()
    unreadable = []
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: list[pa.Table] = []
        count = 0
        for path, table in _in_order(pool, paths):
            if table is None:
                unreadable.append(path)
                continue
            waiting.append(table)
            count += len(table)
            if count >= _BATCH:
                collector.add(pa.concat_tables(waiting))
                waiting, count = [], 0
        if waiting:
            collector.add(pa.concat_tables(waiting))
    found = collector.finish()
    found.unreadable = unreadable
    return found


def combine(frames: Sequence[ReadFrame]) -> ReadFrame:
    """Rows of several sweeps in one table."""
    if len(frames) == 1:
        return frames[0]
    configurations: dict[str, str] = {}
    for each in frames:
        for key, text in each.configurations.items():
            if len(configurations) < MOST_CONFIGURATIONS:
                configurations.setdefault(key, text)
    collector = _Collector()
    for each in frames:
        collector.add_frame(each.rows)
    found = collector.finish()
    found.configurations = configurations
    found.unreadable = [path for each in frames for path in each.unreadable]
    return found


def _in_order(
    pool: ThreadPoolExecutor, paths: Iterable[Path]
) -> Iterator[tuple[Path, pa.Table | None]]:
    """Files and what is in them, in a bounded number of reads ahead."""
    window: list[Path] = []
    for path in paths:
        window.append(path)
        if len(window) == 1024:
            yield from zip(window, pool.map(_read, window), strict=True)
            window = []
    yield from zip(window, pool.map(_read, window), strict=True)


def _read(path: Path) -> pa.Table | None:
    try:
        with pq.ParquetFile(path) as file:
            known = [name for name in file.schema_arrow.names if name in COLUMNS.names]
            return _conform(file.read(columns=known, use_threads=False))
    except (OSError, pa.ArrowException, ValueError):
        return None


def _conform(table: pa.Table) -> pa.Table:
    columns = [
        table[column.name].cast(column.type)
        if column.name in table.column_names
        else pa.nulls(len(table), column.type)
        for column in COLUMNS
    ]
    return pa.table(columns, names=COLUMNS.names)


class _Collector:
    """Puts batches of rows together, with each distinct text once."""

    def __init__(self) -> None:
        self._parts: list[pa.Table] = []
        self._frames: list[pd.DataFrame] = []
        self._configurations: dict[str, str] = {}

    def add(self, table: pa.Table) -> "_Collector":
        table = _conform(table)
        for first in range(0, len(table), _BATCH):
            self._add_batch(table.slice(first, _BATCH))
        return self

    def add_frame(self, frame: pd.DataFrame) -> None:
        self._frames.append(frame)

    def _add_batch(self, table: pa.Table) -> None:
        hashes = []
        for text in table["config"].to_pylist():
            plain = _SAMPLING_AND_SEED.sub("", _CODE.sub("{", text or "{}"))
            digest = hashlib.sha256(plain.encode()).hexdigest()[:12]
            hashes.append(digest)
            if len(self._configurations) < MOST_CONFIGURATIONS:
                self._configurations.setdefault(digest, plain)
        kept = table.drop_columns(["config"]).append_column("configuration", pa.array(hashes))
        for place, column in enumerate(kept.schema):
            if pa.types.is_string(column.type) and column.name not in _PLAIN_TEXT:
                kept = kept.set_column(
                    place, column.name, kept[column.name].combine_chunks().dictionary_encode()
                )
        self._parts.append(kept)

    def finish(self) -> ReadFrame:
        if self._parts:
            table = pa.concat_tables(self._parts).unify_dictionaries()
            self._parts = []
            self._frames.append(_to_pandas(table))
        if not self._frames:
            self._add_batch(_conform(pa.table({})))
            return self.finish()
        return ReadFrame(_concatenate(self._frames), self._configurations)


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    """One column after the other, so that never both copies of all of them are there."""
    columns: dict[str, Any] = {}
    for column in table.schema:
        values = table[column.name]
        table = table.drop_columns([column.name])
        if pa.types.is_boolean(column.type):
            columns[column.name] = values.to_pandas(
                types_mapper={pa.bool_(): pd.BooleanDtype()}.get
            )
        elif pa.types.is_integer(column.type) and values.null_count:
            columns[column.name] = values.cast(pa.float64()).to_pandas()
        elif column.name in _PLAIN_TEXT:
            columns[column.name] = values.to_pandas(types_mapper=_TEXT)
        elif pa.types.is_dictionary(column.type):
            text = values.to_pandas()
            columns[column.name] = text.cat.set_categories(sorted(text.cat.categories))
        else:
            columns[column.name] = values.to_pandas()
    return pd.DataFrame(columns)


_TEXT = {pa.string(): pd.ArrowDtype(pa.string())}.get
_BOOLEAN = {pa.bool_(): pd.BooleanDtype()}.get


def _concatenate(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    if len(frames) == 1:
        return frames[0]
    columns: Mapping[str, list[str]] = {
        name: sorted({str(v) for f in frames for v in f[name].cat.categories})
        for name in frames[0].columns
        if isinstance(frames[0][name].dtype, pd.CategoricalDtype)
    }
    same = [
        f.assign(**{name: f[name].cat.set_categories(values) for name, values in columns.items()})
        for f in frames
    ]
    return pd.concat(same, ignore_index=True)
