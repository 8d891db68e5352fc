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

from kod_bench.inside import MOST_ROWS, read_bytes
from kod_bench.reports.kinds import kinds_of
from kod_bench.results import SCHEMA, Row, is_bounded, is_sound

#: Columns that rows may have beside those of `Row`, from versions that stop trials early.
_EXTRA = pa.schema([pa.field("pruned_at", pa.int64())])
COLUMNS = pa.schema([*SCHEMA, *(f for f in _EXTRA if f.name not in SCHEMA.names)])

MOST_CONFIGURATIONS = 2_000

#: Each distinct in most rows: as categories they would take more.
_PLAIN_TEXT = ("trial", "config", "config_hash", "finished_at")
_NAMES = frozenset(COLUMNS.names)
#: Rows that are worked on at once.
BATCH = 8_192
_THREADS = 4
_AHEAD = 64  # files
_AHEAD_BYTES = 1_000_000  # of compressed text, which becomes ten times as much

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
    return Collector().add([table]).finish().rows


def read_frame(paths: Iterable[Path]) -> ReadFrame:
    """Read row files, or Parquet files of many rows.

    Columns that a file lacks, from an older version, are empty; those that nobody knows are left
    out. A file that is no Parquet, or whose columns have other types, counts as unreadable.
    """
    collector = Collector()
    unreadable = []
    for path, tables in in_order(paths):
        if tables is None:
            unreadable.append(path)
        else:
            collector.add(tables)
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
    collector = Collector()
    for each in frames:
        collector.add_frame(each.rows)
    found = collector.finish()
    found.configurations = configurations
    found.unreadable = [path for each in frames for path in each.unreadable]
    return found


@dataclass(frozen=True)
class _Part:
    """Rows without their configurations, and these by hash."""

    table: pa.Table
    configurations: dict[str, str]


def in_order(paths: Iterable[Path]) -> Iterator[tuple[Path, list[pa.Table] | None]]:
    """Files and their rows, None if a file cannot be read; a bounded number of them ahead."""
    window: list[Path] = []
    size = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        for path in paths:
            window.append(path)
            size += _size(path)
            if len(window) == _AHEAD or size > _AHEAD_BYTES:
                yield from zip(window, pool.map(_read, window), strict=True)
                window, size = [], 0
        yield from zip(window, pool.map(_read, window), strict=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # reading it will say what is wrong


def _read(path: Path) -> list[pa.Table] | None:
    try:
        with pq.ParquetFile(pa.BufferReader(read_bytes(path, MOST_ROWS))) as file:
            known = [name for name in file.schema_arrow.names if name in _NAMES]
            if not file.metadata.num_rows or not is_bounded(file.metadata):
                return None  # a trial that is done has rows
            if file.metadata.num_rows <= BATCH:  # row files: half the time that batches take
                tables = [_typed(file.read(columns=known, use_threads=False))]
            else:
                batches = file.iter_batches(batch_size=BATCH, columns=known, use_threads=False)
                tables = [_typed(pa.Table.from_batches([batch])) for batch in batches]
    except (OSError, pa.ArrowException, ValueError):
        return None
    return tables if all(is_sound(table, known) for table in tables) else None


def _typed(table: pa.Table) -> pa.Table:
    """With the types that the columns have now.

    Raises:
        pa.ArrowException: if they cannot be had, or texts are none, as in a damaged file.
    """
    table.validate(full=True)
    wanted = pa.schema([COLUMNS.field(name).with_nullable(True) for name in table.column_names])
    return table if table.schema.types == wanted.types else table.cast(wanted)


def _part(table: pa.Table) -> _Part:
    configurations: dict[str, str] = {}
    hashes = []
    texts = table["config"].to_pylist() if "config" in table.column_names else [None] * len(table)
    for text in texts:
        plain = _SAMPLING_AND_SEED.sub("", _CODE.sub("{", text or "{}"))
        digest = hashlib.sha256(plain.encode()).hexdigest()[:12]
        hashes.append(digest)
        if len(configurations) < MOST_CONFIGURATIONS:
            configurations[digest] = plain
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    for column in COLUMNS:
        if column.name == "config":
            continue
        if column.name in table.column_names:
            values = table[column.name]
        else:
            values = pa.nulls(len(table), column.type)
        if pa.types.is_string(column.type) and column.name not in _PLAIN_TEXT:
            values = values.dictionary_encode()
        columns[column.name] = values
    columns["kind"] = _kinds(columns, hashes, texts)
    columns["configuration"] = pa.array(hashes, pa.string()).dictionary_encode()
    return _Part(pa.table(columns), configurations)


def _kinds(
    columns: Mapping[str, pa.ChunkedArray | pa.Array], hashes: list[str], texts: list[str | None]
) -> pa.Array:
    """The rows' kinds; of rows of older versions, by their configurations."""
    kinds: list[str | None] = columns["kind"].to_pylist()
    if None in kinds:
        # Seeds share a configuration: of equal hashes, one text is read.
        first = dict(zip(reversed(hashes), reversed(texts), strict=True))
        read = kinds_of(columns["process"].to_pylist(), [first[digest] for digest in hashes])
        kinds = [found or kind for found, kind in zip(kinds, read, strict=True)]
    return pa.array(kinds, pa.string()).dictionary_encode()


class Collector:
    """Makes one frame of many tables, with each distinct text once."""

    def __init__(self) -> None:
        self._waiting: list[pa.Table] = []
        self._rows_waiting = 0
        self._tables: list[pa.Table] = []
        self._frames: list[pd.DataFrame] = []
        self._configurations: dict[str, str] = {}

    def add(self, tables: Sequence[pa.Table]) -> "Collector":
        """Tables of columns of `COLUMNS`; small ones wait until many can be worked on at once."""
        for table in tables:
            self._waiting.append(table)
            self._rows_waiting += len(table)
        if self._rows_waiting >= BATCH:
            self._work()
        return self

    def _work(self) -> None:
        if not self._waiting:
            return
        part = _part(pa.concat_tables(self._waiting, promote_options="default"))
        self._waiting, self._rows_waiting = [], 0
        self._tables.append(part.table)
        if len(self._configurations) < MOST_CONFIGURATIONS:
            self._configurations = part.configurations | self._configurations

    def add_frame(self, frame: pd.DataFrame) -> None:
        """Rows that are a frame already."""
        self._frames.append(frame)

    def finish(self) -> ReadFrame:
        """All of it."""
        self._work()
        if not self._tables and not self._frames:
            self._tables.append(_part(pa.table({})).table)
        if self._tables:
            self._frames.append(_to_pandas(self._take()))
        return ReadFrame(_concatenate(self._frames), self._configurations)

    def _take(self) -> pa.Table:
        """All that was added. Nothing else holds it, so that columns can be dropped one by one."""
        tables, self._tables = self._tables, []
        return pa.concat_tables(tables).unify_dictionaries()


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
