"""Rows of many row files come out the same from the cache, and nothing old comes out of it."""

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kod_bench.reports import frame, read_cached, read_frame, row_cache
from kod_bench.results import write_rows
from tests.rows import make_row


def write_trial(folder: Path, number: int, kid: float) -> Path:
    path = folder / f"trial{number}" / "row.parquet"
    rows = [
        make_row(trial=f"trial{number}", seed=number, kid=kid, network_evaluations=n)
        for n in (25, 100)
    ]
    path.parent.mkdir(exist_ok=True)
    write_rows(path.parent, rows)
    return path


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(row_cache, "FEWEST_FILES", 3)
    return [write_trial(tmp_path, number, 1.0 + number) for number in range(4)]


def same(found: pd.DataFrame, wanted: pd.DataFrame) -> bool:
    keys = ["trial", "network_evaluations"]
    sides = [f.sort_values(keys).reset_index(drop=True) for f in (found, wanted)]
    pd.testing.assert_frame_equal(*sides)
    return True


def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    found: list[Path] = []
    read = frame._read

    def counted(path: Path) -> object:
        found.append(path)
        return read(path)

    monkeypatch.setattr(frame, "_read", counted)
    return found


def test_the_second_report_opens_new_row_files_only(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = read_cached(paths, cache)
    assert same(first.rows, read_frame(paths).rows)
    new = write_trial(tmp_path, 9, 7.0)
    files = opened(monkeypatch)
    second = read_cached([*paths, new], cache)
    assert files == [new]
    assert second.configurations == first.configurations
    assert same(second.rows, read_frame([*paths, new]).rows)
    files.clear()
    assert same(read_cached([*paths, new], cache).rows, second.rows)
    assert files == []


def test_what_is_gone_or_changed_is_not_taken_from_the_cache(
    paths: list[Path], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    read_cached(paths, cache)
    assert same(read_cached(paths[:3], cache).rows, read_frame(paths[:3]).rows)
    write_trial(tmp_path, 0, 99.0)
    os.utime(paths[0], ns=(1, 1))
    assert 99.0 in set(read_cached(paths, cache).rows["kid"])
    paths[1].write_bytes(b"torn")
    found = read_cached(paths, cache)
    assert found.unreadable == [paths[1]]
    assert set(found.rows["trial"]) == {"trial0", "trial2", "trial3"}


@pytest.mark.parametrize("broken", ["text", "cut", "folder", "torn page"])
def test_a_broken_cache_costs_nothing_but_time(
    paths: list[Path], tmp_path: Path, broken: str
) -> None:
    cache = tmp_path / "cache"
    wanted = read_cached(paths, cache).rows
    whole = cache.read_bytes()
    if broken == "folder":
        cache.unlink()
        cache.mkdir()
    elif broken == "torn page":
        cache.write_bytes(b"PAR1" + b"\xff" * (len(whole) // 2) + whole[4 + len(whole) // 2 :])
    else:
        cache.write_bytes(b"no Parquet" if broken == "text" else whole[: len(whole) // 2])
    assert same(read_cached(paths, cache).rows, wanted)
    assert same(read_cached(paths, cache).rows, wanted)


def test_a_disk_that_fails_while_the_cache_is_written_loses_no_row(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(row_cache, "BATCH", 4)  # written after every second file
    monkeypatch.setattr(row_cache.pq.ParquetWriter, "write_table", full)
    found = read_cached(paths, tmp_path / "cache")
    assert same(found.rows, read_frame(paths).rows)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"trial{i}" for i in range(4)]


def test_damaged_row_files_are_unreadable_and_nothing_else(tmp_path: Path) -> None:
    whole = write_trial(tmp_path, 0, 1.0).read_bytes()
    paths = []
    for place in range(0, len(whole) - 4, len(whole) // 100):
        path = tmp_path / f"damaged{place}" / "row.parquet"
        path.parent.mkdir()
        path.write_bytes(whole[:place] + b"\xff\xfe\xfd\xfc" + whole[place + 4 :])
        paths.append(path)
    found = read_frame(paths)
    assert found.unreadable
    assert len(found.rows) == 2 * (len(paths) - len(found.unreadable))


@pytest.mark.parametrize("text", [b"\xe4\xff", b"\x1b[2J", b"x" * 5000])
def test_texts_that_no_row_can_have_are_not_believed(
    text: bytes, paths: list[Path], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    wanted = read_cached(paths, cache).rows
    table = pq.read_table(cache)
    column = pa.array([text] * len(table), pa.binary()).view(pa.string())  # bytes need be no text
    place = table.column_names.index("hostname")
    pq.write_table(table.set_column(place, table.schema.field(place), column), cache)
    assert same(read_cached(paths, cache).rows, wanted)
