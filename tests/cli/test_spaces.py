"""``kod-bench spaces`` and dry runs, as their user sees them; no Ray, and no results."""

import json
import re
from pathlib import Path

import pytest
import yaml

from kod_bench.sweeps.cost import dry_run
from tests.cli.test_wrong_use import Run, assert_one_line, edited, run

__all__ = ["run"]  # the fixture


@pytest.fixture
def here(tiny_space: Path, tmp_path: Path) -> Path:
    """A folder of spaces in the working directory, with one that hides a shipped one."""
    folder = tmp_path / "search_spaces"
    folder.mkdir()
    tiny_space.rename(folder / "tiny.yaml")
    (folder / "fingerprints.yaml").write_text((folder / "tiny.yaml").read_text())
    return folder


def ok(result: tuple[int, str, str]) -> str:
    code, out, err = result
    assert (code, err) == (0, "")
    return out


def test_the_list_says_what_is_taken_and_what_is_hidden(run: Run, here: Path) -> None:
    (here / "broken.yaml").write_text("name: broken\n")
    out = ok(run("spaces", "list"))
    entries = {entry.split()[0]: entry for entry in re.split(r"\n(?=\S)", out)}
    assert {"tiny", "fingerprints", "textures", "terrain", "cifar10", "broken"} <= set(entries)
    assert "models   kuramoto-local, ddpm" in entries["tiny"]
    assert "trials   laptop 3" in entries["tiny"]
    assert "file     search_spaces/tiny.yaml\n" in entries["tiny"] + "\n"
    assert re.search(
        r"file     search_spaces/fingerprints\.yaml; hides /.*/fingerprints\.yaml",
        entries["fingerprints"],
    )
    assert "hides" not in entries["textures"]
    assert "laptop 3, workstation 3, cluster 45" in entries["cifar10"]
    assert "problem  search_spaces/broken.yaml: dataset: this key is required" in entries["broken"]


def test_show_prints_a_space_that_resolves_to_the_same(
    run: Run, here: Path, tmp_path: Path
) -> None:
    out = ok(run("spaces", "show", "tiny", "--set", "models.ddpm.network.width={grid: [8, 16]}"))
    head, _, text = out.partition("\n")
    assert head == (
        "# search_spaces/tiny.yaml, profile laptop: 5 trials, 5 configurations with 1 seed"
    )
    document = yaml.safe_load(text)
    assert document["training"]["learning_rate"] == 2e-4  # a default
    assert document["models"]["ddpm"]["network"] == {"width": {"grid": [8, 16]}}
    (tmp_path / "again.yaml").write_text(text)
    _, _, again = ok(run("spaces", "show", "again.yaml")).partition("\n")
    assert again == text


def test_show_takes_every_profile_or_one(run: Run) -> None:
    both = ok(run("spaces", "show", "textures"))
    assert re.findall(r"^# \S+textures\.yaml, profile (\w+): (\d+) trials", both, re.M) == [
        ("laptop", "5"),
        ("workstation", "5"),
        ("cluster", "50"),
    ]
    one = ok(run("spaces", "show", "textures", "--profile", "cluster"))
    assert one in both
    assert_one_line(run("spaces", "show", "textures", "--profile", "big"), "no profile 'big'")
    assert_one_line(run("spaces", "show", "texture"), "unknown search space", "textures")
    assert_one_line(run("spaces", "show", "textures", "--set", "seed=1"), "--set seed: unknown key")


def test_validate_has_a_line_per_problem(run: Run, here: Path) -> None:
    out = ok(run("spaces", "validate", "tiny", here / "fingerprints.yaml"))
    assert out.splitlines()[0] == "search_spaces/tiny.yaml: valid; trials: laptop 3"
    text = (here / "tiny.yaml").read_text()
    more = (
        "  cluster: {training: {iterations: 0}}\n"
        "  huge: {network: {multipliers: [1, 1, 1, 1, 1, 1]}}\n"
    )
    (here / "two.yaml").write_text(text + more)
    (here / "one.yaml").write_text(text.replace("iterations: 40", "iterations: forty") + more)
    code, out, err = run("spaces", "validate", "tiny", "two", "one")
    assert code == 2
    assert out.count("valid") == 1
    assert len(err.splitlines()) == 4
    for part in (
        "error: search_spaces/two.yaml: profiles.cluster.training.iterations: 0 is not allowed",
        "error: search_spaces/two.yaml: network of kuramoto-local: ",
        "error: search_spaces/one.yaml: training.iterations: 'forty' is not allowed",  # once
    ):
        assert err.count(part) == 1


def test_validate_takes_all_that_are_known(run: Run, here: Path) -> None:
    (here / "broken.yaml").write_text("name: [broken")
    code, out, err = run("spaces", "validate")
    assert code == 2
    assert "error: search_spaces/broken.yaml:2:1: is not valid YAML" in err
    assert out.count("valid; trials") >= 7


def test_sweep_says_which_file_it_takes(run: Run, here: Path) -> None:
    for name, path in (
        ("tiny", "search_spaces/tiny.yaml"),
        ("fingerprints", "search_spaces/fingerprints.yaml"),
        (here / "tiny.yaml", str(here / "tiny.yaml")),
    ):
        out = ok(run("sweep", name, "--dry-run", "--no-timing"))
        assert out.splitlines()[0] == f"search space {path}, profile laptop"
    assert not Path("results").exists()


def test_a_dry_run_shows_the_trials(run: Run, tiny_space: Path) -> None:
    out = ok(run("sweep", tiny_space, "--dry-run", "--no-timing", "--seeds", "0,1"))
    rows = [line.split() for line in out.splitlines()]
    assert ["Model", "T", "NFE", "Trials", "Iterations", "Batch"] in rows
    assert ["kuramoto-local", "4", "4,2", "2", "40", "8"] in rows
    assert ["ddpm", "8", "8", "2", "40", "8"] in rows
    assert "6 trials: 3 configurations, seeds 0, 1" in out
    assert "each trial: 1 worker of 1 CPU; this machine has" in out
    assert "estimate" not in out


def test_a_dry_run_of_thousands_is_a_line_per_model(run: Run, tiny_space: Path) -> None:
    changes = [
        "training.learning_rate={loguniform: [1e-4, 1e-2]}",
        "models.kuramoto-local.neighbourhood_radius={int: [1, 3]}",
        "search={strategy: random, trials: 500}",
    ]
    sets = [part for change in changes for part in ("--set", change)]
    out = ok(run("sweep", tiny_space, "--dry-run", "--no-timing", *sets))
    assert ["kuramoto-local", "4", "4,2", "500", "40", "8"] in [x.split() for x in out.splitlines()]
    assert ["ddpm", "4-8", "8,4", "1000", "40", "8"] in [x.split() for x in out.splitlines()]
    assert len(out.splitlines()) < 12
    assert re.search(r"kuramoto-local: neighbourhood_radius [1-3], [1-3], [1-3]; training", out)
    assert re.search(r"learning_rate 0\.000\d+ to 0\.00\d+ \(\d+ values\)", out)


def test_a_dry_run_estimates_from_real_steps_and_leaves_nothing(
    run: Run, tiny_space: Path, tmp_path: Path
) -> None:
    out = ok(run("sweep", tiny_space, "--dry-run", "--set", "models.kuramoto-local=null"))
    match = re.search(
        r"^estimate: (\d+m)?\d+s from start to end; no accelerator, \d+\.\d\d CPU-hours; "
        r"2 of 2 shapes timed in ",
        out,
        re.MULTILINE,
    )
    assert match, out
    assert "timing 2 of 2 shapes of trial" in out
    assert re.search(r"^ddpm +8 +8 +1 +40 +8 +\d+s +\d+s$", out, re.MULTILINE)
    assert not (tmp_path / "results").exists()


def test_a_dry_run_for_programs_is_one_line_of_json(run: Run, tiny_space: Path) -> None:
    code, out, err = run("sweep", tiny_space, "--dry-run", "--json", "--seeds", "0,1",
                         "--set", "models.kuramoto-local=null")  # fmt: skip
    assert code == 0, err
    event = json.loads(out)
    assert "search space" in err
    assert event["event"] == "dry-run"
    assert event["trials"] == 2 * len(event["configurations"]) == 4
    assert event["seeds"] == [0, 1]
    assert [
        (each["name"], each["varied"], each["network_evaluations"], each["batch_size"])
        for each in event["configurations"]
    ] == [("ddpm", {"steps": 4}, [4], 8), ("ddpm", {"steps": 8}, [8], 8)]
    each = [configuration["seconds"] for configuration in event["configurations"]]
    hours = event["estimate"]["cpu_hours"]
    assert hours == pytest.approx(2 * sum(each) / 3600)
    assert event["estimate"]["accelerator_hours"] == 0
    assert event["machine"]["trials_at_once"] >= 1

    _, out, _ = run("sweep", tiny_space, "--dry-run", "--no-timing", "--json")
    event = json.loads(out)
    assert event["estimate"] is None
    assert {each["seconds"] for each in event["configurations"]} == {None}


def test_a_quiet_dry_run_shows_the_trials_alone(run: Run, tiny_space: Path) -> None:
    out = ok(run("sweep", tiny_space, "--dry-run", "--no-timing", "--quiet"))
    assert out.splitlines()[0].split() == ["Model", "T", "NFE", "Trials", "Iterations", "Batch"]


def test_a_dry_run_of_what_does_not_fit_says_so(run: Run, tiny_space: Path) -> None:
    space = edited(tiny_space, "warmup: 5}", "warmup: 5}\nresources: {gpus_per_worker: 64}")
    out = ok(run("sweep", space, "--dry-run"))
    assert "64 GPU; this machine has" in out
    assert "not one fits" in out
    assert "no estimate: it comes from running a few steps" in out


def test_mistakes_of_a_dry_run(run: Run, tiny_space: Path) -> None:
    bad = run("sweep", tiny_space, "--dry-run", "--set", "training.iterations=0")
    assert_one_line(bad, "--set training.iterations: 0 is not allowed")
    assert_one_line(run("sweep", tiny_space, "--dry-run", "--address", "auto"), "--address")
    too_wide = run("sweep", tiny_space, "--dry-run", "--no-timing", "--set", "network.width=2")
    assert_one_line(too_wide, "differ in size by more than 1 %")


def test_tables_collapse_where_they_say(run: Run, tiny_space: Path) -> None:
    for count, collapsed in ((dry_run.MOST_LINES, False), (dry_run.MOST_LINES + 1, True)):
        out = ok(
            run(
                "sweep", tiny_space, "--dry-run", "--no-timing",
                "--set", "models.kuramoto-local=null", "--set", "models.ddpm.steps=4",
                "--set", "training.weight_decay={uniform: [0, 1]}",
                "--set", f"search={{strategy: random, trials: {count}}}",
            )
        )  # fmt: skip
        assert (f"({count} values)" in out) == collapsed


def test_what_set_changed_is_in_the_plan(
    run: Run, tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kod_bench.sweeps import runner

    monkeypatch.setattr(runner, "run_sweep", lambda sweep, *_: runner.Outcome(sweep, 0, {}))
    ok(run("sweep", tiny_space, "--set", "models.ddpm=null", "--set", "training.iterations=7"))
    (path,) = (tmp_path / "results").glob("tiny/*/sweep.yaml")
    document = yaml.safe_load(path.read_text())
    assert document["set"] == {"models": {"ddpm": None}, "training": {"iterations": 7}}
    assert document["resolved"]["training"]["iterations"] == 7
    assert list(document["resolved"]["models"]) == ["kuramoto-local"]
    assert document["trials"]["count"] == 1
    assert ": not running; 1 waiting" in ok(run("status"))


def test_data_sets_can_vary(
    run: Run, tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kod_bench.sweeps import runner

    monkeypatch.setattr(runner, "run_sweep", lambda sweep, *_: runner.Outcome(sweep, 0, {}))
    change = "dataset.image_size={grid: [16, 24]}"
    out = ok(run("sweep", tiny_space, "--set", change, "--set", "models.kuramoto-local=null"))
    assert re.findall(r"^data: .* (\d+)x\d+ gray patches", out, re.M) == ["16", "24"]
    assert ": 4 trials, 40 iterations of 8 images each" in out
    (path,) = (tmp_path / "results").glob("tiny/*/trials.jsonl")
    trials = [json.loads(line)["own"] for line in path.read_text().splitlines()[1:]]
    pairs = {(trial["dataset"]["image_size"], trial["data_hash"]) for trial in trials}
    assert sorted(size for size, _ in pairs) == [16, 24]
    assert len({data_hash for _, data_hash in pairs}) == 2


def test_the_status_of_thousands_is_short(
    run: Run, tiny_space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kod_bench.sweeps import runner

    monkeypatch.setattr(runner, "run_sweep", lambda sweep, *_: runner.Outcome(sweep, 0, {}))
    seeds = ",".join(map(str, range(1000)))
    ok(run("sweep", tiny_space, "--seeds", seeds))
    out = ok(run("status"))
    assert "3000 waiting" in out
    assert "... and 2900 more" in out
    assert len(out.splitlines()) < 110
