"""The door below a sweep's folder: no way out, no waiting, no more than its kind."""

import ast
import os
from pathlib import Path

import pytest

import kod_bench
from kod_bench.atomic import atomic_write
from kod_bench.errors import UsageError
from kod_bench.inside import (
    UnreadableError,
    check_links,
    child,
    is_file,
    open_to_append,
    open_to_change,
    parse_json,
    read_bytes,
    read_json,
)

OPENERS = {
    "read": lambda path: read_bytes(path, 100),
    "json": read_json,
    "append": lambda path: open_to_append(path).close(),
    "change": lambda path: open_to_change(path).close(),
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that nobody may touch."""
    path = tmp_path / "outside.txt"
    path.write_text("{}")
    return path


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    (folder / "trials" / "a").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("verb", OPENERS)
def test_a_link_is_not_followed(verb: str, sweep: Path, outside: Path) -> None:
    (sweep / "file").symlink_to(outside)
    with pytest.raises(UnreadableError, match="is a link"):
        OPENERS[verb](sweep / "file")
    (sweep / "dangling").symlink_to(sweep.parent / "made-by-nobody")
    with pytest.raises(UnreadableError, match="is a link"):
        OPENERS[verb](sweep / "dangling")
    assert not (sweep.parent / "made-by-nobody").exists()
    assert not is_file(sweep / "file")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("verb", OPENERS)
def test_a_pipe_and_a_folder_are_refused_without_waiting(verb: str, sweep: Path) -> None:
    os.mkfifo(sweep / "pipe")
    (sweep / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(UnreadableError, match="is not a regular file"):
            OPENERS[verb](sweep / name)
        assert not is_file(sweep / name)


def test_a_file_that_is_too_large_for_its_kind_is_not_read(sweep: Path) -> None:
    with (sweep / "zeros").open("wb") as file:
        file.truncate(10**12)  # sparse: it takes no room
    with pytest.raises(UnreadableError, match="has 1000000000000 bytes, more than the 100"):
        read_bytes(sweep / "zeros", 100)


def test_what_is_not_there_is_not_there(sweep: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_bytes(sweep / "nothing", 1)


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a": ' * 100_000, "1" * 5000, "{", "", "\xff", "{'a': 1}"]
)
def test_json_that_is_none_has_one_reason(text: str) -> None:
    with pytest.raises(UnreadableError, match=r"^here: is no (sound )?JSON$"):
        parse_json(text.encode("latin-1"), "here")


@pytest.mark.parametrize(
    "name", ["..", ".", "", "/etc", "a/b", "../a", "a\0b", "x" * 256, "文" * 86]
)
def test_a_name_is_no_path(name: str, sweep: Path) -> None:
    with pytest.raises(UnreadableError, match="is no name of a file"):
        child(sweep, "trials", name)


def test_names_lead_down(sweep: Path) -> None:
    assert child(sweep, "trials", "a") == sweep / "trials" / "a"


@pytest.mark.parametrize("where", ["report", "trials/a", "trials/a/checkpoints", "lock", ".hidden"])
def test_a_sweep_with_a_link_is_refused_by_its_name(where: str, sweep: Path, outside: Path) -> None:
    check_links(sweep)
    if where == "trials/a":
        (sweep / where).rmdir()
    (sweep / where).symlink_to(outside)
    with pytest.raises(UsageError, match=f"{where}: is a link"):
        check_links(sweep)


def test_a_loop_of_links_is_a_link_and_depth_is_no_matter(sweep: Path) -> None:
    deep = sweep
    for _ in range(300):
        deep = deep / "d"
    deep.mkdir(parents=True)
    check_links(sweep)
    (deep / "loop").symlink_to(sweep)
    with pytest.raises(UsageError, match="loop: is a link"):
        check_links(sweep)


def test_a_results_folder_may_be_a_link(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "results").symlink_to(sweep.parent)
    check_links(tmp_path / "results" / "sweep")


def test_what_is_written_whole_goes_through_no_link(sweep: Path, outside: Path) -> None:
    (sweep / "row").symlink_to(outside)
    with atomic_write(sweep / "row") as file:
        file.write(b"again")
    assert outside.read_text() == "{}"
    assert not (sweep / "row").is_symlink()


#: Where files below a sweep's folder are handled.
FOLDERS = ("results", "reports", "sampling", "sweeps", "training")

#: What opens or reads a file by a path of its own, and is `kod_bench.inside`'s to do.
OPENING = {"open", "read_bytes", "read_text", "write_bytes", "write_text", "touch", "is_file"}

#: Files that are not below a sweep's folder, by module.
ELSEWHERE = {
    "reports/page/write.py": "the page's own style and script",
    "results/provenance.py": "the package's own source",
    "reports/published.py": "numbers that are shipped with the package",
    "sweeps/cluster/guardian.py": "/proc",
    "sweeps/cluster/processes.py": "/proc",
    "sweeps/cluster/own_place.py": "scratch",
    "sweeps/cluster/ray_watch.py": "/proc",
    "sweeps/cluster/remote_driver.py": "the user's space, and scratch",
    "sweeps/cluster/share.py": "/sys",
    "sweeps/cluster/watcher.py": "Tune's scratch",
    "sweeps/plan/frozen.py": "the user's space",
    "sweeps/space/files.py": "the user's space",
    "sweeps/space/new.py": "the user's space",
    "sweeps/space/yaml_file.py": "the user's space",
    "sweeps/store/ownership.py": "the user's key",
    "sweeps/store/find.py": "whether a folder is a sweep",
    "sweeps/store/lease.py": "/proc",
    "sweeps/store/scratch.py": "scratch",
    "sweeps/trial/rehearsed.py": "/proc and /sys",
}


def test_nothing_below_a_sweep_is_opened_by_another_door() -> None:
    root = Path(kod_bench.__file__).parent
    found = []
    for path in (path for folder in FOLDERS for path in (root / folder).rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name in ELSEWHERE:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            if isinstance(called, ast.Attribute) and called.attr in OPENING:
                # Image.open(io.BytesIO(...)) reads no file.
                if "BytesIO" not in ast.unparse(node):
                    found.append(f"{name}: {ast.unparse(node)}")
            elif isinstance(called, ast.Name) and called.id == "open":
                found.append(f"{name}: {ast.unparse(node)}")
    assert not found


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_two_writers_of_one_process_do_not_meet(first_ends_first: bool, tmp_path: Path) -> None:
    path = tmp_path / "shard"
    first, second = atomic_write(path), atomic_write(path)
    first.__enter__().write(b"AAAA")
    second.__enter__().write(b"BBBB")
    one, other = (first, second) if first_ends_first else (second, first)
    one.__exit__(None, None, None)
    assert path.read_bytes() == (b"AAAA" if first_ends_first else b"BBBB")
    other.__exit__(None, None, None)
    assert path.read_bytes() == (b"BBBB" if first_ends_first else b"AAAA")
    assert [each.name for each in tmp_path.iterdir()] == ["shard"]
