import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from kod_bench.errors import UsageError
from kod_bench.results import provenance
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.space import SearchSpace, load_space
from kod_bench.sweeps.store.create import create_sweep
from kod_bench.sweeps.store.find import find_sweep
from kod_bench.sweeps.store.locks import LockedError, exclusive_lock, is_locked
from kod_bench.sweeps.store.open import open_planned, open_sweep


@pytest.fixture
def space(tiny_space: Path) -> SearchSpace:
    return load_space(tiny_space, "laptop")


def create(space: SearchSpace, results: Path) -> Sweep:
    return create_sweep(
        space,
        make_trials(space, "hash"),
        results_dir=results,
        data_dir=None,
        provenance=provenance.collect(),
    )


def with_seeds(space: SearchSpace, *seeds: int) -> SearchSpace:
    return space.model_copy(update={"options": space.options.model_copy(update={"seeds": seeds})})


def test_a_plan_survives_the_disk(space: SearchSpace, tmp_path: Path) -> None:
    sweep = create(space, tmp_path)
    again = open_sweep(sweep.folder)
    assert again == sweep
    assert [t.id for t in again.trials] == [t.id for t in make_trials(space, "hash")]
    assert again.trials[0].training_section == space.options.training
    assert again.trials[0].dataset_options == space.options.dataset


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
@pytest.mark.parametrize(
    "model",
    [
        "plain",
        "a" * 300,
        "\N{CJK UNIFIED IDEOGRAPH-6269}" * 82,
        "\N{MATHEMATICAL BOLD SMALL A}" * 90,
    ],
)
def test_a_trial_is_a_folder_however_long_its_name(
    space: SearchSpace, tmp_path: Path, model: str, seed: int
) -> None:
    trial = replace(make_trials(space, "hash")[0], model=model, seed=seed)
    (tmp_path / trial.id).mkdir()  # file systems count bytes
    assert trial.id.endswith(f"-T{trial.steps}-seed{seed}-{trial.config_hash[:8]}")
    assert trial.id.startswith(model[:20])


def test_names_that_were_possible_stay(space: SearchSpace) -> None:
    trial = replace(make_trials(space, "hash")[0], model="\N{CJK UNIFIED IDEOGRAPH-6269}" * 76)
    rest = f"-T{trial.steps}-seed{trial.seed}-{trial.config_hash[:8]}"
    assert trial.id == trial.model + rest  # 249 bytes
    assert replace(trial, model="b" * 90).id.startswith("b" * 80 + "-T")


def test_one_seed_of_every_model_comes_before_the_next_seed(space: SearchSpace) -> None:
    trials = make_trials(with_seeds(space, 3, 4), "hash")
    assert [t.seed for t in trials] == [3, 3, 3, 4, 4, 4]
    assert len({t.id for t in trials}) == 6


def test_a_plan_from_before_variants_and_the_fast_path_is_read(space: SearchSpace) -> None:
    trial = make_trials(space, "hash")[0]
    network = {k: v for k, v in trial.network.items() if k not in ("architecture", "variant")}
    training = {k: v for k, v in trial.training.items() if k != "fast"}
    old = replace(trial, network=network, training=training)
    assert trial.process == "kuramoto"
    assert old.network_options.resolved(periodic=True) == trial.network_options
    assert old.training_section == trial.training_section


@pytest.mark.parametrize(
    "change",
    [{"seed": 9}, {"data_hash": "x"}, {"steps": 9}, {"code": "9"}, {"training": {}}],
)
def test_identity_follows_every_value(space: SearchSpace, change: dict[str, object]) -> None:
    trial = make_trials(space, "hash")[0]
    assert replace(trial, **change).id != trial.id  # type: ignore[arg-type]


def test_identity_does_not_follow_the_order_of_keys(space: SearchSpace) -> None:
    trial = make_trials(space, "hash")[0]
    shuffled = dict(reversed(list(trial.parameters.items())))
    assert replace(trial, parameters=shuffled).id == trial.id


def test_sweeps_started_in_one_second_do_not_collide(space: SearchSpace, tmp_path: Path) -> None:
    folders = {create(space, tmp_path).folder for _ in range(3)}
    assert len(folders) == 3


def test_the_newest_sweep_is_found_and_any_by_name(space: SearchSpace, tmp_path: Path) -> None:
    old, new = create(space, tmp_path), create(space, tmp_path)
    assert find_sweep(None, tmp_path).folder == new.folder
    for name in (old.name, f"tiny/{old.name}", str(old.folder)):
        assert find_sweep(name, tmp_path).folder == old.folder
    assert find_sweep("tiny", tmp_path).folder == new.folder
    with pytest.raises(UsageError, match="no sweep 'other' in"):
        find_sweep("other", tmp_path)
    with pytest.raises(UsageError, match=r"no sweep in .*empty; start one with"):
        find_sweep(None, tmp_path / "empty")


def test_results_that_cannot_be_written_are_refused(space: SearchSpace, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file.*results cannot be written here .*--results-dir"):
        create(space, tmp_path / "file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("format: 99", "format 99; this version reads 1"),
        ("format: 1\ntrials: []", "is damaged"),
        ("format: 1\nspace: [", "is not valid YAML"),
        ("", "must hold a mapping"),
        ("!!python/object/apply:os.system ['touch sprung']", "is not allowed here"),
    ],
)
def test_a_damaged_plan_is_one_line(
    space: SearchSpace,
    tmp_path: Path,
    content: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = create(space, tmp_path).folder
    (folder / "sweep.yaml").write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        open_sweep(folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def test_the_plan_is_plain_yaml_that_people_can_read(space: SearchSpace, tmp_path: Path) -> None:
    sweep = create(space, tmp_path)
    document = yaml.safe_load((sweep.folder / "sweep.yaml").read_text())
    assert document["resolved"]["models"]["ddpm"] == {"process": "ddpm", "steps": {"grid": [4, 8]}}
    assert document["trials"]["count"] == len(sweep.trials) == 3
    first, *lines = (sweep.folder / "trials.jsonl").read_text().splitlines()
    trials = [json.loads(first)["common"] | json.loads(line)["own"] for line in lines]
    assert trials == json.loads(json.dumps([t.values for t in sweep.trials]))
    assert document["provenance"]["version"]


def test_a_plan_of_the_first_format_is_read(space: SearchSpace, tmp_path: Path) -> None:
    sweep = create(space, tmp_path)
    path = sweep.folder / "sweep.yaml"
    document = yaml.safe_load(path.read_text())
    document |= {"format": 1, "trials": json.loads(json.dumps([asdict(t) for t in sweep.trials]))}
    del document["resolved"], document["set"]
    path.write_text(yaml.safe_dump(document))
    (sweep.folder / "trials.jsonl").unlink()
    assert open_sweep(sweep.folder) == sweep
    assert open_planned(sweep.folder, sweep.trials[1].id)[1] == sweep.trials[1]


def test_a_worker_reads_its_own_trial(space: SearchSpace, tmp_path: Path) -> None:
    sweep = create(with_seeds(space, *range(50)), tmp_path)
    for trial in (sweep.trials[0], sweep.trials[77], sweep.trials[-1]):
        alone, found = open_planned(sweep.folder, trial.id)
        assert found == trial
        assert replace(alone, trials=sweep.trials) == sweep
    with pytest.raises(UsageError, match=r"has no trial ddpm-T4$"):
        open_planned(sweep.folder, "ddpm-T4")


@pytest.mark.parametrize("damage", ["gone", "cut", "changed", "words"])
def test_damaged_trials_are_one_line(space: SearchSpace, tmp_path: Path, damage: str) -> None:
    sweep = create(space, tmp_path)
    path = sweep.folder / "trials.jsonl"
    text = path.read_text()
    if damage == "gone":
        path.unlink()
    else:
        path.write_text({"cut": text[:-50], "words": "words\n"}.get(damage, text.replace("4", "5")))
    with pytest.raises(UsageError, match=r"sweep\.yaml: is damaged: .*trials\.jsonl") as caught:
        open_sweep(sweep.folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError) as caught:
        open_planned(sweep.folder, sweep.trials[-1].id)
    assert "\n" not in str(caught.value)


def test_a_lock_excludes_and_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    with exclusive_lock(path, 0):
        assert is_locked(path)
        with pytest.raises(LockedError), exclusive_lock(path, 0.2):
            pass
    assert not is_locked(path)
