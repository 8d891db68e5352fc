"""``~`` is the home folder wherever a user names a path, and not a folder that is called so."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
import typer

from kod_bench.cli.main import app, main
from kod_bench.cli.options import expand_locations, expand_path
from kod_bench.data import DatasetOptions, default_data_dir
from kod_bench.data.cache import default_cache_dir
from kod_bench.errors import UsageError
from kod_bench.evaluation.features import ExtractorError
from kod_bench.evaluation.inception import WEIGHTS_VARIABLE, find_weights
from kod_bench.storage import ObjectFolder, local_path, parse_location
from kod_bench.sweeps.space import find_space
from kod_bench.sweeps.store.find import find_sweep, find_sweeps


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


def commands(found: typer.Typer, name: str = "") -> list[tuple[str, Callable[..., object]]]:
    """Every command of the command line, with its function."""
    here = [
        (f"{name} {each.name or each.callback.__name__}".strip(), each.callback)
        for each in found.registered_commands
        if each.callback is not None
    ]
    for group in found.registered_groups:
        if group.typer_instance is not None:
            here += commands(group.typer_instance, str(group.typer_instance.info.name))
    return here


def paths() -> dict[str, Any]:
    """What Typer is told of every option and argument that names a path."""
    found = {}
    for command, function in commands(app):
        for name, kind in get_type_hints(function, include_extras=True).items():
            if get_origin(kind) is Annotated:
                base, said = get_args(kind)[:2]
                words = str(said.metavar).replace("|", " ").split()
                is_named = {"PATH", "FOLDER", "FILE"} & {*words} or name.endswith("_dir")
                if Path in (base, *get_args(base)) or is_named:
                    found[f"{command} {name}"] = said
    return found


def test_the_options_with_paths_are_known() -> None:
    assert paths().keys() >= {
        "sweep data_dir", "sweep results_dir", "resume results_dir", "status results_dir",
        "report results_dir", "report output", "compare results_dir", "evaluate generated",
        "evaluate train", "evaluate json_file", "evaluate data_dir", "data list data_dir",
        "data prepare data_dir", "data show data_dir", "data show output",
    }  # fmt: skip


@pytest.mark.parametrize("name", paths())
def test_every_option_with_a_path_knows_the_home(name: str, home: Path) -> None:
    expand = paths()[name].callback
    assert expand is not None
    assert expand(None) is None
    if expand is expand_locations:
        assert expand(["~/x y", "some/where"]) == [str(home / "x y"), "some/where"]
        return
    kind = Path if expand is expand_path else str
    assert str(expand(kind("~/x y"))) == str(home / "x y")
    assert str(expand(kind("some/where"))) == "some/where"


def test_the_command_line_looks_there(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--results-dir=~/res", "--results-dir=./~/res"):
        monkeypatch.setattr(sys, "argv", ["kod-bench", "status", option])
        with pytest.raises(SystemExit):
            main()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"error: no sweep in {home}/res; ")
    assert second.startswith(
        f"error: no sweep in {Path.cwd()}/~/res; "
    )  # a folder of that name, here


def test_locations(home: Path) -> None:
    assert parse_location("~/x") == home / "x"
    assert parse_location("~") == home
    assert parse_location("s3://bucket/~/x") == ObjectFolder("s3://bucket/~/x")
    assert parse_location("a/~") == Path("a/~")
    assert local_path("./~/x") == local_path(str(local_path("./~/x"))) == Path.cwd() / "~" / "x"
    with pytest.raises(UsageError, match=r"^~nobody-here/x: there is no such home folder; one th"):
        parse_location("~nobody-here/x")


def test_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, found in (
        ("KOD_BENCH_DATA", default_data_dir),
        ("KOD_BENCH_CACHE", default_cache_dir),
    ):
        monkeypatch.setenv(name, "~/there")
        assert found() == home / "there"
        monkeypatch.setenv(name, "~nobody-here")
        with pytest.raises(UsageError, match="no such home folder"):
            found()
    (home / "weights.pt").write_bytes(b"others")
    monkeypatch.setenv(WEIGHTS_VARIABLE, "~/weights.pt")
    with pytest.raises(ExtractorError, match=r"home/weights\.pt: is not"):
        find_weights()


def test_search_spaces_and_their_folders(home: Path) -> None:
    (home / "mine.yml").write_text("name: mine")
    assert find_space("~/mine.yml") == home / "mine.yml"
    with pytest.raises(UsageError, match=r"~/other\.yml: no such search space file"):
        find_space("~/other.yml")
    assert DatasetOptions(name="folder:~/images", image_size=8).folder == home / "images"
    with pytest.raises(ValueError, match="no such home folder"):
        DatasetOptions(name="folder:~nobody-here/x", image_size=8)


def test_sweeps(home: Path) -> None:
    folder = home / "results" / "tiny" / "one"
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text("format: 99")
    for found in (find_sweep, lambda name, where: find_sweeps([name], where)):
        with pytest.raises(UsageError, match=rf"^{folder}/sweep\.yaml: format 99"):
            found("~/results/tiny/one", Path("nowhere"))
