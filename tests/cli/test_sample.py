"""`kod-bench sample` and `export`: files that other tools read, and one line for wrong use."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import kod_bench
from kod_bench.evaluation.folders import ImageFolder
from kod_bench.models.outputs import write_samples
from kod_bench.results import read_trial
from kod_bench.sweeps.plan.make import current_code
from kod_bench.sweeps.plan.sweep import Sweep
from tests.cli.test_surviving import can_mount
from tests.conftest import PATIENCE, Command
from tests.trained import folder_of, trial_of


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(call: Command, *words: object) -> str:
    """The one line of a command that is refused."""
    done = call(*words)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return str(line)


def test_a_folder_of_pngs_and_what_they_are_from(trained: Sweep, call: Command) -> None:
    folder = folder_of(trained, "kuramoto")
    done = call("sample", folder, "--count", 20, "--out", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"{folder.name}\n"
        "  20 samples: prior matched, sampler ancestral, 4 evaluations, seed 0\n"
        "  20 kept and 0 drawn, in out\n"
    )
    expected = kod_bench.load(folder, device="cpu").sample(20)
    names = sorted(path.name for path in Path("out").glob("*.png"))
    assert names == [f"{number:06d}.png" for number in range(20)]
    for name, image in zip(names, expected, strict=True):
        with Image.open(Path("out", name)) as picture:
            assert (picture.mode, picture.size) == ("L", (16, 16))
            assert torch.equal(torch.from_numpy(np.array(picture)), image[0])
    about = json.loads(Path("out/samples.json").read_text())
    assert about["from"]["trial"] == folder.name
    assert about["from"]["data_hash"] == trial_of(trained, "kuramoto").data_hash
    assert about["way"] == {"prior": "matched", "sampler": "ancestral", "network_evaluations": 4}
    assert (about["count"], about["kept"], about["drawn"], about["seed"]) == (20, 20, 0, 0)
    assert about["drawn_by"] == current_code()
    # As `evaluate` reads them: the images, and nothing else in the folder.
    assert torch.equal(ImageFolder(Path("out")).load()[:, :1], expected)


def test_one_array_and_one_picture(trained: Sweep, call: Command) -> None:
    folder = folder_of(trained, "ddpm")
    expected = kod_bench.load(folder, device="cpu").sample(30).permute(0, 2, 3, 1).numpy()
    for out in ("a.npz", "a.npy", "a.png"):
        done = call("sample", folder, "--count", 30, "--out", out)
        assert done.returncode == 0, done.stderr
        about = json.loads(Path(f"{out}.json").read_text())
        assert (about["kept"], about["drawn"]) == (24, 6)
    with np.load("a.npz", allow_pickle=False) as archive:
        assert archive.files == ["arr_0"]
        assert archive["arr_0"].dtype == np.uint8
        assert np.array_equal(archive["arr_0"], expected)
    assert np.array_equal(np.load("a.npy", allow_pickle=False), expected)
    assert len(ImageFolder(Path("a.npz"))) == len(ImageFolder(Path("a.npy"))) == 30
    with Image.open("a.png") as grid:
        assert min(grid.size) >= 512


def test_a_whole_sweep_and_some_of_its_models(trained: Sweep, call: Command) -> None:
    done = call("sample", trained.folder, "--count", 3, "--out", "all")
    assert done.returncode == 0, done.stderr
    finished = {t.id for t in trained.trials if read_trial(trained.trial_folder(t))}
    assert {path.name for path in Path("all").iterdir()} == finished
    assert all(len(list(path.glob("*.png"))) == 3 for path in Path("all").iterdir())
    assert done.stderr == "left out: 6 trials, not finished\n"
    chosen = ("sample", "trained", "--results-dir", trained.folder.parents[1], "--count", 2)
    done = call(*chosen, "--model", "*dm", "--out", "one")
    assert done.returncode == 0, done.stderr
    assert len(list(Path("one").glob("*.png"))) == 2  # edm has finished once: no folder in between
    said = refusal(call, *chosen, "--model", "ddpm", "--out", "several.npz")
    assert "is one file, for 3 trials" in said
    said = refusal(call, *chosen, "--model", "vdm", "--out", "x")
    assert said.endswith("has no such model; it has kuramoto, ddpm, edm, heat")
    # A sampler that one of several models lacks is refused before the first is drawn from.
    said = refusal(
        call,
        "sample",
        trained.folder,
        "--count",
        3,
        "--out",
        "none",
        "--sampler",
        "probability-flow",
    )
    assert "no sampler 'probability-flow'" in said
    assert not Path("none").exists()


def test_options_reach_the_sampler(trained: Sweep, call: Command) -> None:
    folder = folder_of(trained, "kuramoto")
    done = call(
        *("sample", folder, "--count", 5, "--out", "a.npy", "--sampler", "probability-flow"),
        *("--network-evaluations", 3, "--prior", "von-mises", "--seed", 7, "--batch-size", 4),
    )
    assert done.returncode == 0, done.stderr
    assert "prior von-mises, sampler probability-flow, 3 evaluations, seed 7" in done.stdout
    expected = kod_bench.load(folder, device="cpu").sample(
        5,
        sampler="probability-flow",
        network_evaluations=3,
        prior="von-mises",
        seed=7,
        batch_size=4,
    )
    assert np.array_equal(np.load("a.npy"), expected.permute(0, 2, 3, 1).numpy())


def test_sampling_starts_at_images_of_a_folder(trained: Sweep, call: Command) -> None:
    folder = folder_of(trained, "kuramoto")
    opened = kod_bench.load(folder, device="cpu")
    images = opened.open_images().test[:3]
    Path("mine").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(f"mine/{number}.png")
    done = call("sample", folder, "--count", 3, "--start", "mine", "--out", "a.npy")
    assert done.returncode == 0, done.stderr
    assert "prior forward" in done.stdout
    expected = opened.sample(3, start=images).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(np.load("a.npy"), expected)
    Image.new("L", (32, 16)).save("mine/9.png")
    said = refusal(call, "sample", folder, "--start", "mine", "--out", "b.npy")
    assert "holds images of 16x16, 32x16 pixels; the model's have 16x16" in said
    shutil.rmtree("mine")
    Path("mine").mkdir()
    Image.new("RGB", (16, 16), "red").save("mine/0.png")
    said = refusal(call, "sample", folder, "--start", "mine", "--out", "b.npy")
    assert "holds images in colour" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--count", 0, "--out", "x"), "--count 0: must be at least 1"),
        (("--count", 4), "--out is missing: name a folder, or a file .npz, .npy or .png"),
        (("--sampler", "heunn", "--out", "x"), "no sampler 'heunn'; choose from ancestral, "),
        (("--prior", "white", "--out", "x"), "no prior 'white'; choose from standard-normal, or f"),
        (("--network-evaluations", 9, "--out", "x"), "evaluations must be at most T = 4, got 9"),
        (("--seed", -1, "--out", "x"), "seed must be a whole number from 0 on, got -1"),
        (("--batch-size", 0, "--out", "x"), "batch_size must be a whole number from 1 on, got 0"),
        (("--count", 5000, "--out", "x.png"), "a picture shows 4096 samples at most, not 5000"),
        (("--out", "no/x.npz"), "the folder no does not exist"),
        (("--out", "s3://bucket/x"), "s3:/bucket/x: is no place on a disk"),
        (("--start", "nothing", "--out", "x"), "nothing: does not exist"),
        (("--from", "diffusers:x", "--out", "x"), "--from draws from elsewhere; leave out the s"),
    ],
)
def test_wrong_use_is_one_line(
    trained: Sweep, call: Command, options: tuple[object, ...], said: str
) -> None:
    line = refusal(call, "sample", folder_of(trained, "ddpm"), *options)
    assert said in line
    assert not Path("x").exists()


def test_a_trial_that_has_not_finished(trained: Sweep, call: Command) -> None:
    folder = folder_of(trained, "heat", 1)
    for words in (("sample", folder, "--out", "x"), ("export", folder, "x")):
        assert "has not finished; kod-bench resume" in refusal(call, *words)
    assert not Path("x").exists()
    for trial in trained.trials:
        (trained.trial_folder(trial) / "row.parquet").unlink(missing_ok=True)
    said = refusal(call, "sample", trained.folder, "--out", "x")
    assert "of 12 trials none has a model of all iterations (12 not finished)" in said


def test_only_earlier_samples_are_replaced(trained: Sweep, call: Command) -> None:
    folder = folder_of(trained, "ddpm")
    assert call("sample", folder, "--count", 20, "--out", "out").returncode == 0
    said = refusal(call, "sample", folder, "--count", 2, "--out", "out")
    assert "is not empty (it holds 000000.png)" in said
    assert "--overwrite" in said
    done = call("sample", folder, "--count", 2, "--out", "out", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert len(list(Path("out").glob("*.png"))) == 2
    Path("out/thesis.tex").write_text("mine")
    said = refusal(call, "sample", folder, "--count", 2, "--out", "out", "--overwrite")
    assert "holds thesis.tex, which is no earlier sample" in said
    assert len(list(Path("out").iterdir())) == 4
    said = refusal(call, "sample", folder, "--out", "out/thesis.tex")
    assert "is a file; name a folder, or a file .npz, .npy, .png" in said
    Path("a.npz.json").write_text("mine")
    assert "a.npz: a.npz.json is there already" in refusal(call, "sample", folder, "--out", "a.npz")


def test_two_commands_at_once(trained: Sweep, call: Command) -> None:
    folder = folder_of(trained, "ddpm")
    Path("out").mkdir()
    descriptor = os.open("out", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        said = refusal(call, "sample", folder, "--count", 2, "--out", "out")
        assert said == "error: --out out: another kod-bench is writing samples there"
    finally:
        os.close(descriptor)
    # Reading one trial, they do not meet.
    assert call("sample", folder, "--count", 2, "--out", "out").returncode == 0
    assert call("sample", folder, "--count", 2, "--out", "other").returncode == 0


def test_a_damaged_shard_is_named_and_drawn_again(trained: Sweep, call: Command) -> None:
    folder = folder_of(trained, "ddpm")
    assert call("sample", folder, "--count", 20, "--out", "a.npy").returncode == 0
    shard = folder / "samples/standard-normal-ancestral-4/shard-000002.npz"
    shard.write_bytes(shard.read_bytes()[:100])
    done = call("sample", folder, "--count", 20, "--out", "b.npy")
    assert done.returncode == 0
    assert "16 kept and 4 drawn" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: ")
    assert "drawn again" in line
    assert Path("a.npy").read_bytes() == Path("b.npy").read_bytes()


@pytest.mark.parametrize("out", ["prints", "prints.npz", "prints.npy"])
def test_who_is_interrupted_goes_on_with_what_was_drawn(
    trained: Sweep, call: Command, out: str
) -> None:
    folder = folder_of(trained, "ddpm")
    model = kod_bench.load(folder, device="cpu")
    options = {"seed": 5, "batch_size": 8}
    calls = 0

    def interrupt() -> None:
        nonlocal calls
        calls += 1
        if calls == 4 * 2 + 3:  # in the third of five batches
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_samples(Path(out), model, model.drawing(36, **options), interrupt)
    aside = Path(f"{out}.unfinished")
    assert sorted(path.name for path in aside.iterdir()) == [
        "shard-000000.npz",
        "shard-000001.npz",
    ]
    (aside / ".shard-000002.npz.1.tmp").write_bytes(b"")  # as a killed process leaves it
    # A file that is not ours is left alone.
    command = ("sample", folder, "--count", 36, "--batch-size", 8, "--out", out, "--seed", 5)
    (aside / "mine.txt").touch()
    assert "mine.txt is no shard of samples" in refusal(call, *command)
    (aside / "mine.txt").unlink()
    done = call(*command)
    assert done.returncode == 0, done.stderr
    assert "16 kept and 20 drawn" in done.stdout
    assert not aside.exists()
    whole = call(*command[:-3], f"whole-{out}", "--seed", 5)
    assert "0 kept and 36 drawn" in whole.stdout
    for one in sorted(Path(out).iterdir()) if out == "prints" else [Path(out)]:
        other = Path(f"whole-{out}", one.name) if out == "prints" else Path(f"whole-{out}")
        if one.suffix != ".json":
            assert one.read_bytes() == other.read_bytes()


@pytest.mark.skipif(not can_mount(), reason="a small file system cannot be mounted here")
@pytest.mark.parametrize("out", ["small/out", "small/a.npz"])
def test_a_full_disk_is_one_line(trained: Sweep, out: str) -> None:
    Path("small").mkdir()
    trial = folder_of(trained, "ddpm")
    script = (
        "mount -t tmpfs -o size=16k none small && "
        f'"{sys.executable}" -m kod_bench.cli.main sample "{trial}" --count 100 --out {out} '
        '; code=$?; ls -A "$(dirname small/x)" >&2; exit $code'
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 2, done.stderr
    line, *left = done.stderr.splitlines()
    assert line.startswith(f"error: --out {out}: cannot be written (No space left on device), aft")
    assert line.endswith("of 100 samples")
    # Of a file, nothing stays but what can be gone on with.
    assert set(left) <= ({"out", "out.unfinished"} if out == "small/out" else {"a.npz.unfinished"})


def test_what_is_exported_is_drawn_from(trained: Sweep, call: Command) -> None:
    folder = folder_of(trained, "kuramoto")
    done = call("export", folder, "mine", "--licence", "mit")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"{folder.name}\n  written: mine; it loads with kod_bench.load('mine')\n"
    )
    assert "is not empty" in refusal(call, "export", folder, "mine")
    assert call("export", folder, "mine", "--overwrite").returncode == 0
    for name, out in (("mine", "a.npy"), (folder, "b.npy")):
        done = call("sample", name, "--count", 9, "--out", out)
        assert done.returncode == 0, done.stderr
    assert Path("a.npy").read_bytes() == Path("b.npy").read_bytes()
    said = refusal(call, "export", trained.folder, "x")
    assert "is not the folder of a trial, such as" in said
    assert "must be an identifier" in refusal(call, "export", folder, "x", "--licence", "a b")


def test_a_diffusers_folder(call: Command) -> None:
    diffusers = pytest.importorskip("diffusers")
    network = diffusers.UNet2DModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    pipeline = diffusers.DDPMPipeline(network, diffusers.DDPMScheduler(num_train_timesteps=10))
    pipeline.save_pretrained("ddpm")
    done = call("sample", "--from", "diffusers:ddpm", "--count", 3, "--out", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ddpm\n  3 samples: prior standard-normal, sampler ddpm, 10 ev")
    with Image.open("out/000002.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (8, 8))
    about = json.loads(Path("out/samples.json").read_text())
    assert about["from"]["scheduler"]["clip_sample"] is True
    assert "must be diffusers:FOLDER" in refusal(call, "sample", "--from", "hub:x", "--out", "x")
    assert "is not a folder" in refusal(call, "sample", "--from", "diffusers:no", "--out", "x")
