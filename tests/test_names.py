from pathlib import Path

from kod_bench.atomic import atomic_write
from kod_bench.names import MAX_NAME_BYTES, cut_to_bytes


def test_texts_are_cut_between_characters() -> None:
    for most, found in (
        (0, ""),
        (2, "a"),
        (4, "a\u6269"),
        (7, "a\u6269\u6269"),
        (99, "a\u6269\u6269"),
    ):
        assert cut_to_bytes("a\u6269\u6269", most) == found


def test_a_file_may_have_the_longest_name_there_is(tmp_path: Path) -> None:
    path = tmp_path / ("\u6269" * (MAX_NAME_BYTES // 3))
    with atomic_write(path) as file:
        file.write(b"whole")
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"whole"]
