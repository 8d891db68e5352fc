from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kod_bench.results import Row, parse_rows, provenance, read_rows, read_trial, write_rows
from tests.rows import make_row


def test_rows_survive_the_disk(tmp_path: Path) -> None:
    row = make_row(order_parameter=None, git_dirty=None, git_commit=None)
    other = make_row(network_evaluations=50)
    write_rows(tmp_path, [row, other])
    assert read_trial(tmp_path) == [row, other]
    assert [p.name for p in tmp_path.iterdir()] == ["row.parquet"]


def test_every_field_has_a_column_of_its_type(tmp_path: Path) -> None:
    schema = pq.read_schema(write_rows(tmp_path, [make_row()]))
    assert schema.names == [field.name for field in fields(Row)]
    assert str(schema.field("kid").type) == "double"
    assert str(schema.field("steps").type) == "int64"


def test_columns_that_older_rows_lack_are_null(tmp_path: Path) -> None:
    path = write_rows(tmp_path, [make_row(density=0.5, marks="few")])
    later = ["density", "coverage_real", "memorised_share", "order_parameter_data", "marks"]
    pq.write_table(pq.read_table(path).drop_columns(later), path)
    assert read_trial(tmp_path) == [make_row(**dict.fromkeys(later))]


def test_a_trial_without_rows_is_never_done(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without a row"):
        write_rows(tmp_path, [])
    path = write_rows(tmp_path, [make_row()])
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    assert read_trial(tmp_path) is None


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="many"):
        write_rows(tmp_path, [make_row(steps="many")])
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path, [make_row(seed=1)])

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_rows(tmp_path, [make_row(seed=2)])
    monkeypatch.undo()
    (row,) = read_trial(tmp_path) or []
    assert row.seed == 1
    assert [p.name for p in tmp_path.iterdir()] == ["row.parquet"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all" * 10])
def test_an_unreadable_row_is_no_row(tmp_path: Path, content: bytes) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    write_rows(tmp_path / "good", [make_row()])
    (tmp_path / "bad" / "row.parquet").write_bytes(content)
    found = read_rows(tmp_path)
    assert [row.trial for row in found.rows] == [make_row().trial]
    assert found.unreadable == [tmp_path / "bad" / "row.parquet"]


def test_a_row_from_an_older_version_reads_with_gaps(tmp_path: Path) -> None:
    path = write_rows(tmp_path, [make_row()])
    pq.write_table(pq.read_table(path).drop_columns(["evaluation_seconds"]), path)
    (row,) = read_trial(tmp_path) or []
    assert row.evaluation_seconds is None
    assert row.kid == make_row().kid


def test_provenance_names_this_checkout() -> None:
    found = provenance.collect()
    assert '"torch"' in found.packages
    assert found.hostname
    if found.git_commit is not None:
        assert len(found.git_commit) == 40


def test_provenance_does_not_report_somebody_elses_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    import kod_bench

    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "kod_bench").mkdir()
    monkeypatch.setattr(kod_bench, "__file__", str(tmp_path / "kod_bench" / "__init__.py"))
    assert provenance.collect().git_commit is None


def test_damaged_content_is_no_rows_whatever_parquet_calls_it(tmp_path: Path) -> None:
    whole = write_rows(tmp_path, [make_row()]).read_bytes()
    assert parse_rows(whole) == [make_row()]
    assert parse_rows(whole[:-50]) is None
    found = [
        parse_rows(whole[:place] + b"\xff\xfe\xfd\xfc" + whole[place + 4 :])
        for place in range(0, len(whole) - 4, len(whole) // 150)
    ]
    assert None in found
