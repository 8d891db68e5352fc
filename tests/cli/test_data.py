"""`kod-bench data list | prepare | show`, in this process."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kod_bench.cli import data as cli_data
from kod_bench.cli import main as cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kod-bench", "data", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of noise, divided into train and test; one file is no image."""
    generator = np.random.default_rng(0)
    for side, count in (("train", 6), ("test", 3)):
        for label in ("cat", "dog"):
            folder = tmp_path / "pictures" / side / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    (tmp_path / "pictures/train/cat/text.png").write_text("no image")
    return tmp_path / "pictures"


def test_list_names_every_data_set_and_where_it_would_come_from(run: Run, pictures: Path) -> None:
    code, out, _ = run("list")
    assert code == 0
    for name in ("fingerprints", "textures", "terrain", "cifar10", "sphere", "folder:PATH"):
        assert re.search(rf"^{name}\n  from ", out, re.MULTILINE)
    assert "built in: scikit-image's brick, grass, gravel; not prepared" in out
    assert "download to" in out
    run("prepare", "cifar10", "--data-dir", pictures, "--image-size", 8)
    assert f"data folder {pictures}; prepared once" in run("list", "--data-dir", pictures)[1]


def test_prepare_counts_and_the_second_time_says_so(run: Run, pictures: Path) -> None:
    arguments = ("prepare", "cifar10", "--data-dir", pictures, "--image-size", 16)
    code, out, err = run(*arguments)
    assert code == 0
    assert "cifar10-folder: 12 training and 6 test 16x16 rgb whole images, from 18 images" in out
    assert "skipped 1: not an image" in out
    assert "as given by the folders train and test" in out
    assert re.search(r"^prepared in \d", out, re.MULTILINE)
    assert "warning: skipped 1 unusable image: train/cat/text.png (not an image)" in err
    _, again, err = run(*arguments)
    assert "prepared before" in again
    assert "warning: skipped 1" in err
    hashes = [re.search("^hash .*$", each, re.MULTILINE) for each in (out, again)]
    assert hashes[0] and hashes[1] and hashes[0][0] == hashes[1][0]  # noqa: PT018


@pytest.mark.parametrize("command", ["prepare", "show"])
def test_a_users_expression_groups_the_images(run: Run, tmp_path: Path, command: str) -> None:
    generator = np.random.default_rng(0)
    (tmp_path / "scans").mkdir()
    for name in ("p1-a", "p1-b", "p2-a", "p2-b"):
        pixels = generator.integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "scans" / f"{name}.png", dpi=(1000, 1000))
    arguments = ["fingerprints", "--data-dir", tmp_path / "scans", "--image-size", 8]
    arguments += ["--scale", 1, "--dpi", "ignore", "--group", r"p(\d)"]
    if command == "show":
        arguments += ["--steps", 2, "--chains", 4]
    code, out, err = run(command, *arguments)
    assert code == 0
    assert "1 and 1 groups" in out if command == "prepare" else "groups" in out
    assert "warning" not in err


def test_show_tells_and_draws(run: Run, pictures: Path, tmp_path: Path) -> None:
    arguments = ("--data-dir", pictures, "--image-size", 16, "--steps", 2, "--chains", 4)
    code, out, _ = run("show", "cifar10", *arguments)
    assert code == 0
    for row in (
        ("images", "12", "6"),
        ("class cat", "6", "3"),
        ("class dog", "6", "3"),
        ("highest pixel", "255", "255"),
    ):
        assert re.search(r"\W+".join(row), out), row
    assert "white share" in out
    assert "mean phase" in out
    assert re.search(r"global\W+2\W", out)
    assert re.search(r"local\W+2\W", out)
    assert "1 not an image" in out
    assert "licence" in out
    with Image.open(tmp_path / "cifar10-folder-contact-sheet.png") as sheet:
        assert len(sheet.convert("RGB").getcolors(2**24) or []) > 1000


def test_how_files_of_maps_lie_is_said_and_shown(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "maps"
    folder.mkdir()
    values = np.random.default_rng(0).standard_normal((6, 16, 32))
    values[:, 3, 4:9] = -9999
    for number, each in enumerate(values):
        np.save(folder / f"{number}.npy", each)
    asked = ("prepare", "sphere", "--data-dir", folder, "--image-size", 8)
    code, _, err = run(*asked)
    assert code == 2
    assert "0.npy is -9999 in 1.0% of its values, which seems to mean missing" in err
    code, _, err = run(*asked, "--fill", "-9999")
    assert code == 2
    assert "16x32 may be on the grid gauss-legendre or cells" in err
    code, out, _ = run(*asked, "--fill", "-9999", "--grid", "cells", "--flip", "latitude")
    assert code == 0
    said = "maps 16x32 on grid cells (as said), turned to have north first, 1.0% missing (-9999)"
    assert said in out
    code, _, err = run(*asked, "--fill", "inf")
    assert code == 2
    assert "--fill inf is not allowed: must be a finite number, nan or none" in err
    code, _, err = run("prepare", "textures", "--grid", "cells")
    assert code == 2
    assert "--grid is an option of data set sphere, not of textures" in err


def test_show_draws_the_sphere_on_the_ellipse(run: Run, tmp_path: Path) -> None:
    arguments = ("--image-size", 8, "--field", "log-normal", "--steps", 2, "--chains", 4)
    code, out, _ = run("show", "sphere", *arguments)
    assert code == 0
    assert "images   16x8, 1 channel" in out
    assert "built-in log-normal fields on the sphere: 2000 images used" in out
    assert "Mollweide maps: sphere-log-normal-contact-sheet-mollweide.png" in out
    for name in ("contact-sheet.png", "contact-sheet-mollweide.png"):
        with Image.open(tmp_path / f"sphere-log-normal-{name}") as sheet:
            assert sheet.width > sheet.height / 2
            assert len(sheet.convert("L").getcolors() or []) > 100
    code, _, err = run("show", "textures", "--field", "gaussian")
    assert code == 2
    assert "--field is an option of data set sphere, not of textures" in err
    code, _, err = run("prepare", "sphere", "--view", "patches")
    assert code == 2
    assert "maps of the sphere are not cut: view must be whole" in err


def test_show_says_where_the_picture_cannot_be_written(run: Run, pictures: Path) -> None:
    arguments = ("--data-dir", pictures, "--image-size", 16, "--output", "no/such/folder.png")
    code, _, err = run("show", "cifar10", *arguments)
    assert code == 2
    assert err.splitlines()[-1].startswith("error: no/such/folder.png: cannot be written")


def test_a_search_space_says_what_to_prepare(run: Run, tiny_space: Path) -> None:
    dataset = "dataset: {name: terrain, image_size: 16, scale: [0.5, 0.25]}"
    text, count = re.subn("dataset: .*", dataset, tiny_space.read_text())
    assert count == 1
    tiny_space.write_text(text)
    code, out, _ = run("prepare", "--space", tiny_space, "--profile", "laptop")
    assert code == 0
    assert "terrain-builtin: " in out
    assert "16x16 gray patches at scales 0.5, 0.25" in out
    same = ("--image-size", 16, "--scale", 0.5, "--scale", 0.25)
    assert "prepared before" in run("prepare", "terrain", *same)[1]


def test_a_progress_bar_on_a_terminal(
    run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    code, _, err = run("prepare", "cifar10", "--data-dir", pictures, "--image-size", 16)
    assert code == 0
    assert "19/19" in err


def test_lines_now_and_then_elsewhere(
    run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_data, "_SECONDS_BETWEEN_LINES", -1.0)
    _, _, err = run("prepare", "cifar10", "--data-dir", pictures, "--image-size", 16)
    assert "prepared 19 of 19" in err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("prepare",), "name a data set"),
        (("prepare", "faces"), "data set 'faces' is not allowed: known: fingerprints, textures"),
        (("prepare", "textures", "--image-size", 4), "--image-size 4 is not allowed"),
        (("prepare", "textures", "--scale", 2), "--scale"),
        (("prepare", "textures", "--test-share", 0.9), "--test-share 0.9 is not allowed"),
        (("prepare", "textures", "--view", "whole"), "set view to patches"),
        (("prepare", "textures", "--group", "("), "--group '(' is not allowed: must be a regular"),
        (("prepare", "fingerprints", "--dpi", "high"), "must be auto, ignore, or a whole number"),
        (("prepare", "textures", "--dpi", 500), "only fingerprints are scans of a known size"),
        (("prepare", "textures", "--data-dir", "nowhere"), "does not exist"),
        (("prepare", "folder:nowhere"), "nowhere does not exist"),
        (("prepare", "folder:here", "--data-dir", "there"), "leave out one of them"),
        (("prepare", "--space", "nowhere"), "unknown search space"),
        (("prepare", "textures", "--space", "fingerprints"), "leave out NAME"),
        (("prepare", "--space", "fingerprints", "--color", "rgb"), "leave out --color"),
        (("show", "textures", "--profile", "laptop"), "--profile belongs to a search space"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_wrong_use_is_one_line(run: Run, arguments: tuple[object, ...], part: str) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert part in err
