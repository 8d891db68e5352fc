"""`kod-bench evaluate`: clean-fid's numbers, honest counts, and one line for every mistake."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import cleanfid.fid
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from kod_bench.cli import main as cli
from kod_bench.evaluation import inception
from kod_bench.evaluation.folders import ImageFolder
from tests.evaluation.pictures import SHARED, blurred, noise_like

Run = Callable[..., tuple[int, str, str]]

OWN = """
import torch
from kod_bench.evaluation import CleanFidExtractor

class Pooled(CleanFidExtractor):
    name = "pooled-v1"
    def network(self, images):
        assert images.shape[1:] == (3, 299, 299)
        return torch.nn.functional.adaptive_avg_pool2d(images / 255, 4).flatten(1)

class NotFinite(Pooled):
    def network(self, images):
        return super().network(images) * float("nan")

class WrongShape(Pooled):
    def network(self, images):
        return super().network(images).reshape(-1, 3)
"""


def pooled(images: Tensor) -> Tensor:
    """The network of `Pooled`, as clean-fid takes it."""
    return torch.nn.functional.adaptive_avg_pool2d(images / 255, 4).flatten(1)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `kod-bench evaluate` in this process, in a folder with the user's module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    module = f"own_{tmp_path.name}".replace("-", "_")
    Path(f"{module}.py").write_text(OWN)

    def call(*arguments: object) -> tuple[int, str, str]:
        words = [str(argument).replace("own:", f"{module}:") for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["kod-bench", "evaluate", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def save(folder: Path, images: Tensor, suffix: str = "png") -> Path:
    """Write images under names that sort in their order, half of them in a subfolder."""
    for index, image in enumerate(images):
        path = folder / ("a" if index < len(images) // 2 else "b/deep") / f"{index:04}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = image.permute(1, 2, 0).squeeze(-1).numpy()
        if suffix == "npy":
            np.save(path, pixels)
        else:
            Image.fromarray(pixels).save(path)
    return folder


def soft(count: int, seed: int, channels: int = 3, side: int = 24, radius: float = 1.0) -> Tensor:
    return blurred(noise_like(torch.empty(count, channels, side, side), seed), radius)


def values(path: Path) -> dict[str, float]:
    return {k: v["value"] for k, v in json.loads(path.read_text())["metrics"].items()}


def made_folders(tmp_path: Path) -> tuple[Path, Path]:
    # Laws that differ: near zero, clean-fid's KID is mostly the rounding of its 32-bit sums.
    made = save(tmp_path / "made", soft(20, 0)), save(tmp_path / "ref", soft(24, 1) // 2, "bmp")
    save(tmp_path / "ref" / "gray", soft(4, 2, channels=1, side=40), "jpg")
    save(tmp_path / "made" / "arrays", soft(4, 3, side=30), "npy")
    return made


def real_folders(tmp_path: Path) -> tuple[Path, Path]:
    classes = SHARED / "cifar10" / "test"
    if not classes.is_dir():
        pytest.skip("needs cifar10 in ../shared/data")
    for name in ("ship", "frog"):
        (tmp_path / name).mkdir()
        for path in sorted((classes / name).iterdir())[:40]:
            (tmp_path / name / path.name).symlink_to(path)
    return tmp_path / "ship", tmp_path / "frog"


@pytest.mark.parametrize("folders", [made_folders, real_folders])
def test_two_folders_score_as_with_clean_fid(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folders: Callable[[Path], tuple[Path, Path]],
) -> None:
    one, two = map(str, folders(tmp_path))
    code, _, err = run(
        one, "--against", two, "--features", "own:Pooled", "--metrics", "fid,kid", "--seed", 5,
        "--json", "scores.json", "--batch-size", 7,
    )  # fmt: skip
    assert (code, err) == (0, "")
    options = {"mode": "clean", "num_workers": 0, "device": torch.device("cpu"), "verbose": False}
    expected = cleanfid.fid.compute_fid(one, two, custom_feat_extractor=pooled, **options)
    monkeypatch.setattr(cleanfid.fid, "build_feature_extractor", lambda *_, **__: pooled)
    np.random.seed(5)  # noqa: NPY002
    expected_kid = cleanfid.fid.compute_kid(one, two, **options)
    found = values(Path("scores.json"))
    assert found == {
        "fid": pytest.approx(expected, rel=1e-3),
        "kid": pytest.approx(expected_kid, rel=1e-3),
    }


def test_the_table_states_counts_extractor_and_marks(run: Run, tmp_path: Path) -> None:
    generated, against = save(tmp_path / "made", soft(12, 0)), save(tmp_path / "real", soft(30, 1))
    train = save(tmp_path / "train", soft(40, 2))
    code, out, err = run(
        generated, "--against", against, "--train", train, "--features", "own:Pooled",
        "--json", "out.json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    out = " ".join(out.split())  # lines are wrapped
    for part in (
        "12 samples of",
        "against 30 references of",
        "Metric Value Real vs real Better Source",
        "Pooled-pooled-v1-",
        "Training images: 40.",
        "FID of 12 samples against 30 references, fewer than 2048, is biased upwards",
        "No memorised_share: at least 99 reference images are needed; there are 30.",
        "neither ours",
        "Real versus real: 12 training images against 30 references.",
        "ours",
        "Naeem et al. 2020",
    ):
        assert part in out
    document = json.loads(Path("out.json").read_text())
    assert document["sample_count"] == 12
    assert document["real_counts"] == [12, 30]
    metrics = document["metrics"]
    assert metrics["fid_infinity"]["value"] is None
    assert metrics["memorised_share"]["real_versus_real"] is None
    assert metrics["memorised_share"]["value"] is None
    assert metrics["nearest_distance"]["better"] is None
    others = {k: v for k, v in metrics.items() if k not in ("fid_infinity", "memorised_share")}
    for column, cell in others.items():
        assert cell["value"] is not None, column
        assert cell["real_versus_real"] is not None, column


def test_one_seed_one_result(run: Run, tmp_path: Path) -> None:
    folders = save(tmp_path / "made", soft(8, 0)), save(tmp_path / "real", soft(10, 1))
    texts = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run(folders[0], "--against", folders[1], "--features", "own:Pooled", "--seed", seed,
            "--json", f"{name}.json")  # fmt: skip
        texts.append(Path(f"{name}.json").read_text())
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_the_same_folder_twice_is_zero_and_says_so(run: Run, tmp_path: Path) -> None:
    folder = save(tmp_path / "made", soft(20, 0))
    code, out, _ = run(folder, "--against", folder, "--features", "own:Pooled", "--json", "o.json")
    assert code == 0
    assert "The two folders hold the same images" in out
    found = values(Path("o.json"))
    assert found["fid"] == pytest.approx(0, abs=1e-6)
    assert found["kid"] < 1e-9
    assert found["orientation_distance"] == found["order_distance"] == 0
    assert found["coverage"] == 1


def test_mixed_sizes_are_scored_by_features_and_refused_for_texture(
    run: Run, tmp_path: Path
) -> None:
    generated, against = save(tmp_path / "made", soft(12, 0)), save(tmp_path / "real", soft(12, 1))
    save(tmp_path / "made" / "large", soft(4, 2, side=50))
    options = (generated, "--against", against, "--features", "own:Pooled")
    code, out, _ = run(*options, "--json", "o.json")
    assert code == 0
    assert "there are 24x24, 50x50" in out
    found = values(Path("o.json"))
    assert found["frequency_distance"] is None
    assert found["kid"] is not None
    code, _, err = run(*options, "--metrics", "frequency_distance")
    assert code == 2
    assert "frequency_distance: images of one size" in err


def test_a_named_data_set_is_measured_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "cache"))
    prints = tmp_path / "prints"
    prints.mkdir()
    for finger in range(4):
        pixels = soft(1, finger, channels=1, side=120)[0, 0].numpy().astype(float)
        pixels = ((pixels - 127.5) * 3 + 127.5).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(prints / f"{finger}_1.png")
    generated = save(tmp_path / "made", soft(12, 0, channels=1, side=32))
    options = (
        generated, "--against", "fingerprints", "--data-dir", prints, "--features", "own:Pooled"
    )  # fmt: skip
    code, out, err = run(*options, "--json", "one.json")
    assert (code, err) == (0, "")
    assert "of fingerprints" in out
    assert len([*(tmp_path / "cache" / "references").iterdir()]) == 1
    assert run(*options, "--json", "two.json")[0] == 0
    assert Path("one.json").read_text() == Path("two.json").read_text()
    assert values(Path("one.json"))["nearest_distance"] is not None


def test_how_a_data_sets_maps_lie_is_said_here_too(run: Run, tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    for number, each in enumerate(np.random.default_rng(0).standard_normal((8, 24, 48))):
        np.save(tmp_path / "maps" / f"{number}.npy", each)
    (tmp_path / "made").mkdir()
    for number, each in enumerate(np.random.default_rng(1).integers(0, 256, (6, 8, 16))):
        Image.fromarray(each.astype(np.uint8)).save(tmp_path / "made" / f"{number}.png")
    options = (
        tmp_path / "made", "--against", "sphere", "--data-dir", tmp_path / "maps",
        "--metrics", "spectrum_distance", "--features", "own:Pooled",
    )  # fmt: skip
    code, _, err = run(*options)
    assert code == 2
    assert "maps 24x48 may be on the grid gauss-legendre or cells" in " ".join(err.split())
    code, out, _ = run(*options, "--grid", "cells")
    assert code == 0
    assert "maps 24x48 on grid cells (as said)" in " ".join(out.split())
    code, _, err = run(*options, "--fill", "missing")
    assert code == 2
    assert "sphere: sphere.fill: must be a finite number, nan or none" in " ".join(err.split())
    code, _, err = run(tmp_path / "made", "--against", tmp_path / "made", "--grid", "cells")
    assert code == 2
    assert "--grid is an option of data set sphere, not of" in " ".join(err.split())


def test_folders_are_read_whatever_their_shape(tmp_path: Path) -> None:
    folder = save(tmp_path / "made", soft(3, 0))
    save(tmp_path / "made" / ".hidden", soft(2, 0))
    (folder / "a" / "loop").symlink_to(folder)
    Image.new("L", (5, 4), 7).save(folder / "z.BMP")
    Image.new("RGBA", (5, 4), (1, 2, 3, 0)).save(folder / "z2.png")
    (folder / "notes.txt").write_text("not an image")
    found = ImageFolder(folder)
    assert len(found) == 5
    assert found.sizes == {(24, 24), (4, 5)}
    batches = list(found.batches(2))
    assert [len(batch) for batch in batches] == [2, 1, 2]
    assert batches[-1][0].unique().tolist() == [7]
    assert batches[-1][1, :, 0, 0].tolist() == [
        255,
        255,
        255,
    ]  # transparent: white, as in data sets
    assert found.notes == ("filled the transparent parts of 1 image with white",)


def empty(folder: Path) -> None:
    folder.mkdir()


def one_image(folder: Path) -> None:
    save(folder, soft(1, 0))


def with_damaged(folder: Path) -> None:
    save(folder, soft(4, 0))
    whole = (folder / "a" / "0000.png").read_bytes()
    (folder / "a" / "0001.png").write_bytes(whole[: len(whole) // 2])


def with_text(folder: Path) -> None:
    save(folder, soft(4, 0))
    (folder / "b" / "note.png").write_text("not an image")


def with_empty_file(folder: Path) -> None:
    save(folder, soft(4, 0))
    (folder / "b" / "none.jpg").write_bytes(b"")


def with_pipe(folder: Path) -> None:
    save(folder, soft(4, 0))
    os.mkfifo(folder / "pipe.png")


def with_bad_array(folder: Path) -> None:
    save(folder, soft(4, 0))
    np.save(folder / "floats.npy", np.zeros((4, 4, 3)))


def a_file(folder: Path) -> None:
    folder.write_text("")


def nothing(_: Path) -> None:
    pass


BAD_FOLDERS: list[tuple[Callable[[Path], None], str]] = [
    (nothing, "bad: does not exist"),
    (a_file, "bad: is not a folder"),
    (empty, "bad: holds no image; looked for .apng"),
    (one_image, "bad: holds 1 image, and at least 2 are needed"),
    (with_damaged, "1 of 4 images cannot be read, first a/0001.png"),
    (with_text, "1 of 5 images cannot be read, first b/note.png (not an image)"),
    (with_empty_file, "1 of 5 images cannot be read, first b/none.jpg"),
    (with_pipe, "1 of 5 images cannot be read, first pipe.png (not a regular file)"),
    (
        with_bad_array,
        "1 of 5 images cannot be read, first floats.npy[0] (64-bit floating-point numbers",
    ),
]


def assert_one_line(result: tuple[int, str, str], part: str) -> None:
    code, out, err = result
    assert code == 2, (out, err)
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert part in err


@pytest.mark.parametrize("role", ["generated", "against", "train"])
@pytest.mark.parametrize(("make", "part"), BAD_FOLDERS)
def test_a_bad_folder_in_any_role(
    run: Run, tmp_path: Path, role: str, make: Callable[[Path], None], part: str
) -> None:
    folders = {name: tmp_path / name for name in ("generated", "against", "train")}
    folders[role] = tmp_path / "bad"
    for name, path in folders.items():
        make(path) if name == role else save(path, soft(4, 1))
    assert_one_line(
        run(folders["generated"], "--against", folders["against"], "--train", folders["train"],
            "--features", "own:Pooled", "--json", "out.json"),
        part,
    )  # fmt: skip
    assert not Path("out.json").exists()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--features", "own:NotFinite"), "values that are not finite for 4 of 4 images"),
        (("--features", "own:WrongShape"), "returned shape (64, 3) for 4 images"),
        (("--features", "own:Missing"), "has no attribute 'Missing'"),
        (("--features", "not_there:Extractor"), "No module named 'not_there'"),
        (("--features", "inceptio"), "did you mean 'inception'"),
        (("--features", "inception"), "or choose efficientnet-lite0"),
        (("--metrics", "fid,kdi"), "unknown metric 'kdi'; did you mean 'kid'"),
        (("--metrics", ""), "unknown metric ''"),
        (("--metrics", "memorised_share"), "name their folder with --train"),
        (("--json", "taken"), "--json taken: is a folder"),
        (("--json", "no/such/out.json"), "--json no/such/out.json: cannot be written"),
        (("--json", "file/out.json"), "--json file/out.json: cannot be written"),
        (("--against", "fingerprint"), "neither a folder nor a data set (fingerprints"),
        (("--against", "no/such/folder"), "no/such/folder: does not exist"),
        (("--against", "fingerprints", "--train", "made"), "has training images of its own"),
    ],
)
def test_mistakes_end_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[str, ...], part: str
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.delenv(inception.WEIGHTS_VARIABLE, raising=False)
    save(tmp_path / "made", soft(4, 0))
    save(tmp_path / "real", soft(4, 1))
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").write_text("")
    given = dict(zip(options[::2], options[1::2], strict=True))
    defaults = {"--against": "real", "--features": "own:Pooled"}
    words = [word for pair in (defaults | given).items() for word in pair]
    assert_one_line(run("made", *words), part)
    assert not list(tmp_path.glob("**/out.json"))


@pytest.mark.parametrize("shapes", [[(24, 20)], [(24, 24), (30, 30)]])
def test_a_data_set_needs_square_images_of_one_size(
    run: Run, tmp_path: Path, shapes: list[tuple[int, int]]
) -> None:
    for height, width in shapes:
        images = noise_like(torch.empty(3, 1, height, width))
        save(tmp_path / "made" / f"{height}", images)
    assert_one_line(
        run("made", "--against", "fingerprints", "--features", "own:Pooled"),
        "must hold square images of one size",
    )


@pytest.mark.parametrize("option", [("--seed", "-1"), ("--batch-size", "0"), ("--seed", "x")])
def test_options_out_of_range_are_status_2(run: Run, option: tuple[str, str]) -> None:
    code, _, err = run("made", "--against", "real", *option)
    assert code == 2
    assert option[0] in err


def test_a_named_data_set_is_divided_as_in_training(run: Run, tmp_path: Path) -> None:
    """The held-out images are those of the same `dataset.group`, not those by names alone."""
    names = [f"p{i // 2}-{i % 2}.png" for i in range(8)]
    files = sorted(save(tmp_path / "scans", soft(8, 3, side=80)).rglob("*.png"))
    for file, name in zip(files, names, strict=True):
        file.rename(file.with_name(name))
    generated = save(tmp_path / "made", soft(4, 0))
    asked = (generated, "--against", "terrain", "--data-dir", tmp_path / "scans")
    own = ("--features", "own:Pooled", "--metrics", "kid")
    code, out, _ = run(*asked, *own, "--group", r"p(\d)")
    assert code == 0
    assert "3 and 1 groups" in out
    assert "6 and 2 source images" in run(*asked, *own)[1]
    code, _, err = run(*asked, *own, "--group", "(")
    assert code == 2
    assert "terrain: group: " in err
    code, _, err = run(generated, "--against", generated, "--group", "x")
    assert code == 2
    assert "--group 'x': divides a named data set" in err
