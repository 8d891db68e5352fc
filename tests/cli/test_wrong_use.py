"""Wrong use ends with one line on stderr and status 2, before Ray starts."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from kod_bench.cli import main as cli
from kod_bench.sweeps import runner
from kod_bench.sweeps.cluster import remote_driver

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the command line in this process; Ray must not be reached."""

    def unreachable(*_: object) -> None:
        pytest.fail("Ray was started")

    for module in (runner, remote_driver):
        monkeypatch.setattr(module, "ray_session", unreachable)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kod-bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def assert_one_line(result: tuple[int, str, str], *parts: str) -> None:
    code, _, err = result
    assert code == 2
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    for part in parts:
        assert part in err


def edited(space: Path, old: str, new: str) -> Path:
    text = space.read_text()
    assert old in text
    space.write_text(text.replace(old, new))
    return space


def test_unknown_search_space(run: Run) -> None:
    assert_one_line(run("sweep", "fingerprint"), "unknown search space", "fingerprints")


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("image_size: 16", "image_sze: 16", "dataset.image_sze: unknown key"),
        ("batch_size: 8", "batch_size: eight", "training.batch_size: 'eight' is not allowed"),
        ("calibration_chains: 16, steps: 4", "steps: 0", "models.kuramoto-local: steps must be"),
        ("multipliers: [1, 2]", "multipliers: [1, 1, 1, 1, 1, 1]", "divisible by 32, got 16"),
        (
            "{process: ddpm,",
            "{process: ddpm, network: {multipliers: [1, 1, 1, 1, 1, 1]},",
            "network of ddpm: 6 levels halve the image 5 times",
        ),
        ("width: 8", "width: 2", "differ in size by more than 1 %"),
        ("{process: ddpm,", "{process: sphere,", "L colatitudes x 2 L longitudes"),
        (
            "warmup: 5}",
            "warmup: 5}\nresources: {cpus_per_worker: 9999}",
            "9999 CPU; this machine has",
        ),
        ("warmup: 5}", "warmup: 5}\nresources: {gpus_per_worker: 64}", "64 GPU"),
    ],
)
def test_mistakes_in_a_space(run: Run, tiny_space: Path, old: str, new: str, part: str) -> None:
    assert_one_line(run("sweep", edited(tiny_space, old, new)), part)


def test_a_model_may_have_a_network_of_another_size(
    run: Run, tiny_space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "run_sweep", lambda sweep, *_: runner.Outcome(sweep, 0, {}))
    edited(tiny_space, "{process: ddpm,", "{process: ddpm, network: {width: {grid: [8, 16, 24]}},")
    code, out, err = run("sweep", tiny_space)
    assert (code, err) == (0, "")
    assert ": 7 trials" in out


@pytest.mark.parametrize("command", ["sweep", "resume"])
def test_a_cluster_reached_from_outside_shares_no_relative_path(
    run: Run, tiny_space: Path, command: str
) -> None:
    address = ("--address", "ray://head:10001")
    result = run(command, tiny_space, *address)
    assert_one_line(result, "--results-dir results: with --address ray://", "s3://bucket/prefix")
    if command == "sweep":
        results = ("--results-dir", "s3://bucket/results")
        result = run("sweep", tiny_space, *address, *results, "--data-dir", "prints")
        assert_one_line(result, "--data-dir prints: with --address ray://")
        assert_one_line(run("sweep", "nothing", *address, *results), "unknown search space")


def test_data_folders(run: Run, tiny_space: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1_1.png").write_bytes(b"not a picture")
    for name, part in (("none", "does not exist"), ("empty", "no image"), ("broken", "1_1.png")):
        result = run("sweep", tiny_space, "--data-dir", tmp_path / name)
        assert_one_line(result, name, part)
    assert not (tmp_path / "results").exists()


def test_results_folder_that_cannot_be_written(run: Run, tiny_space: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    result = run("sweep", tiny_space, "--results-dir", tmp_path / "taken" / "below")
    assert_one_line(result, "taken", "cannot be written here", "--results-dir")


def test_results_folder_without_permission(run: Run, tiny_space: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    # Root may write to any folder of mode 500, but nobody makes folders in /proc.
    folder = Path("/proc") if os.geteuid() == 0 else tmp_path / "locked"
    result = run("sweep", tiny_space, "--results-dir", folder)
    assert_one_line(result, str(folder), "cannot be written here", "--results-dir")


@pytest.mark.parametrize("seeds", ["", "a", "1,1", "-1", "0,,1"])
def test_seeds(run: Run, tiny_space: Path, seeds: str) -> None:
    assert_one_line(run("sweep", tiny_space, f"--seeds={seeds}"), "--seeds", "distinct integers")


@pytest.mark.parametrize("command", ["resume", "status", "report"])
def test_no_sweep(run: Run, command: str) -> None:
    assert_one_line(run(command), "no sweep in results")
    assert_one_line(run(command, "yesterday"), "no sweep 'yesterday'")


def test_unknown_profile(run: Run, tiny_space: Path) -> None:
    assert_one_line(run("sweep", tiny_space, "--profile", "huge"), "no profile 'huge'", "laptop")


def test_unknown_option_is_status_2(run: Run) -> None:
    code, _, err = run("sweep", "fingerprints", "--sedes", "1")
    assert code == 2
    assert "--seeds" in err


def test_debug_shows_where(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KOD_BENCH_DEBUG", "1")  # restored afterwards; --debug sets it
    monkeypatch.setattr(sys, "argv", ["kod-bench", "--debug", "sweep", "nothing"])
    with pytest.raises(Exception, match="unknown search space"):
        cli.main()


def test_importing_the_package_loads_neither_torch_nor_ray() -> None:
    code = (
        "import sys, kod_bench, kod_bench.cli.main;"
        "print([m for m in ('torch', 'ray', 'pandas', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_corrupt_image_among_good_ones_is_counted_and_skipped(
    run: Run, tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    folder = tmp_path / "prints"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for finger in range(4):
        pixels = generator.integers(0, 256, (120, 120), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{finger}_1.png")
    (folder / "9_1.png").write_bytes((folder / "0_1.png").read_bytes()[:300])
    monkeypatch.setattr(runner, "run_sweep", lambda sweep, *_: runner.Outcome(sweep, 0, {}))
    code, out, err = run("sweep", tiny_space, "--data-dir", folder)
    assert (code, err) == (0, "")
    assert "warning: " in out
    assert "9_1.png" in out


SECRET = "s3://AKIA:hun/ter2@bucket"


@pytest.mark.parametrize(
    "words",
    [
        ("sweep", SECRET),
        ("sweep", "fingerprints", "--results-dir", SECRET),
        ("sweep", "fingerprints", "--data-dir", SECRET, "--dry-run"),
        ("sweep", "fingerprints", "--dry-run", "--set", f"dataset.name=folder:{SECRET}"),
        ("sweep", "fingerprints", "--dry-run", "--set", f"{SECRET}=1"),
        ("sweep", "fingerprints", "--address", "ray://127.0.0.1:1", "--results-dir", SECRET),
        ("status", SECRET),
        ("status", "a", SECRET),
        ("report", SECRET),
        ("report", "--output", SECRET),
        ("compare", SECRET, SECRET),
        ("resume", SECRET),
        ("data", "list", "--data-dir", SECRET),
        ("data", "prepare", f"folder:{SECRET}"),
        ("data", SECRET),
        ("evaluate", SECRET, "--against", SECRET),
        ("spaces", "check", SECRET),
        ("sample", SECRET, "--out", "x"),
        ("sample", "a", "--out", SECRET),
        ("sample", "--from", f"diffusers:{SECRET}", "--out", "x"),
        ("export", SECRET, "x"),
        ("export", "a", SECRET),
        (SECRET,),
    ],
)
def test_no_command_repeats_credentials_of_an_address(
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")  # no line is broken within a secret
    monkeypatch.setattr(sys, "argv", ["kod-bench", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = "".join(capsys.readouterr())
    assert ended.value.code == 2
    assert said
    for part in ("AKIA", "hun", "ter2"):
        assert part not in said


def test_a_data_folder_that_is_not_there_is_refused_before_anything_runs(
    run: Run, tiny_space: Path
) -> None:
    gone = ("--data-dir", "gone")
    for words in (("sweep", tiny_space, *gone), ("sweep", tiny_space, "--dry-run", *gone)):
        assert_one_line(run(*words), "--data-dir gone: does not exist")


def test_a_key_is_proposed_where_it_is_allowed_alone(run: Run, tiny_space: Path) -> None:
    refused = run("spaces", "show", tiny_space, "--set", "training.iteratons=3")
    assert_one_line(refused, "did you mean 'iterations'?", "allowed: iterations")
    assert "profiles" not in refused[2]


def test_data_of_a_folder_that_is_scored_against_a_folder_are_refused(run: Run) -> None:
    Path("a").mkdir()
    refused = run("evaluate", "a", "--against", "a", "--data-dir", "a")
    assert_one_line(refused, "--data-dir a: is of a named data set; a is a folder")


def test_a_study_for_a_cluster_says_what_it_takes_and_is_confirmed(
    run: Run, tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_space.write_text(tiny_space.read_text() + "  cluster: {seeds: [0, 1]}\n")
    cost = "profile cluster: 6 trials, each on 1 workers; 1,920 images"
    began = ("sweep", tiny_space, "--profile", "cluster", "--results-dir", tmp_path / "results")
    # A script must say that it means it.
    assert_one_line(run(*began), cost, "--yes", "--dry-run")
    assert not list(tmp_path.glob("results/*/*"))
    (tmp_path / "empty").mkdir()
    # Told so, it begins, and says the same.
    code, out, err = run(*began, "--yes", "--data-dir", tmp_path / "empty")
    assert (code, cost in out) == (2, True)
    assert "--yes" not in err
    # A person is asked; no is no.
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda question: question != "start it?")
    code, out, _ = run(*began)
    assert (code, cost in out) == (1, True)
    assert not list(tmp_path.glob("results/*/*"))


def test_a_share_is_of_this_machine_and_must_hold_a_trial(run: Run, tiny_space: Path) -> None:
    for option in ("--cpus", "--gpus"):
        result = run("sweep", tiny_space, option, "1", "--address", "auto")
        assert_one_line(result, f"{option} is a share of this machine", "--address")
    assert_one_line(run("sweep", tiny_space, "--cpus", "9999"), "--cpus 9999: this machine has")
    result = run("sweep", tiny_space, "--cpus", "1", "--set", "resources.cpus_per_worker=2")
    assert_one_line(result, "asks for 1 worker(s) of 2 CPU", "the share of this machine")
