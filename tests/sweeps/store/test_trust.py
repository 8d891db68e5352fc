"""Whose plan it is: one's own is resumed as it is, of any other what it reads must be named."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kod_bench.errors import UsageError
from kod_bench.results import provenance
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trials_file import Drawn, encode_trials
from kod_bench.sweeps.space import load_space
from kod_bench.sweeps.store.create import create_sweep
from kod_bench.sweeps.store.growth import GrowingPlan
from kod_bench.sweeps.store.open import open_sweep
from kod_bench.sweeps.store.ownership import is_own
from kod_bench.sweeps.store.trust import with_confirmed_data

SEARCH = """
search: {strategy: optuna, trials: 3, metric: kid}
"""


@pytest.fixture
def private(tmp_path: Path) -> Path:
    folder = tmp_path / "private"
    folder.mkdir()
    return folder


def make(space_file: Path, tmp_path: Path, data_dir: Path | None, extra: str = "") -> Sweep:
    text = space_file.read_text() + extra
    if extra:
        chosen = "steps: 4, schedule: {choice: [linear, cosine]}"
        text = text.replace("steps: {grid: [4, 8]}", chosen)
    space_file.write_text(text)
    space = load_space(space_file, "laptop")
    return create_sweep(
        space,
        make_trials(space, "hash"),
        results_dir=tmp_path / "results",
        data_dir=data_dir,
        provenance=provenance.collect(),
        hashes={variant.dataset: "hash" for variant in space.variants},
    )


def edit(sweep: Sweep, **changes: Any) -> None:
    """Change the plan's document, as anybody can."""
    path = sweep.folder / "sweep.yaml"
    document = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**document, **changes}))


def name_folder(sweep: Sweep, folder: Path) -> None:
    """Let every trial train on a folder of images, with hashes to match."""
    dataset = {**sweep.trials[0].dataset, "name": f"folder:{folder}"}
    encoded = encode_trials([(t.id, {**t.values, "dataset": dataset}) for t in sweep.trials])
    trials = [replace(t, dataset=dataset) for t in sweep.trials]
    encoded = encode_trials([(t.id, t.values) for t in trials])
    (sweep.folder / "trials.jsonl").write_bytes(encoded)
    said = {
        "file": "trials.jsonl",
        "count": len(trials),
        "bytes": len(encoded),
        "sha256": hashlib.sha256(encoded).hexdigest(),
    }
    edit(sweep, trials=said)


def test_ones_own_plan_reads_what_it_was_made_with(
    tiny_space: Path, tmp_path: Path, private: Path
) -> None:
    sweep = make(tiny_space, tmp_path, private)
    assert is_own(sweep)
    assert with_confirmed_data(sweep, []).data_dir == private


def test_a_plan_that_was_changed_must_be_confirmed(
    tiny_space: Path, tmp_path: Path, private: Path
) -> None:
    sweep = make(tiny_space, tmp_path, None)
    edit(sweep, data_dir=str(private))
    changed = open_sweep(sweep.folder)
    assert not is_own(changed)
    with pytest.raises(UsageError, match=f"--data-dir {private}") as refused:
        with_confirmed_data(changed, [])
    assert "hash" not in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert with_confirmed_data(changed, [private]).data_dir == private


def test_a_folder_named_by_a_trial_must_be_confirmed_too(
    tiny_space: Path, tmp_path: Path, private: Path
) -> None:
    sweep = make(tiny_space, tmp_path, None)
    name_folder(sweep, private)
    changed = open_sweep(sweep.folder)
    with pytest.raises(UsageError, match="not made by you"):
        with_confirmed_data(changed, [])
    with pytest.raises(UsageError, match="not made by you"):
        with_confirmed_data(changed, [tmp_path / "elsewhere"])
    with_confirmed_data(changed, [private])


def test_anothers_key_signs_nothing_for_this_user(
    tiny_space: Path, tmp_path: Path, private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOD_BENCH_KEY", str(tmp_path / "another" / "key"))
    sweep = make(tiny_space, tmp_path, private)
    assert is_own(sweep)
    monkeypatch.undo()
    monkeypatch.setenv("KOD_BENCH_KEY", str(tmp_path / "mine" / "key"))
    assert not is_own(sweep)


def test_a_plan_that_reads_nothing_needs_no_word(tiny_space: Path, tmp_path: Path) -> None:
    sweep = make(tiny_space, tmp_path, None)
    (sweep.folder / "signature.json").unlink()
    assert not is_own(sweep)
    assert with_confirmed_data(sweep, []) == sweep


def test_images_that_have_moved_are_read_where_they_are(
    tiny_space: Path, tmp_path: Path, private: Path
) -> None:
    sweep = make(tiny_space, tmp_path, tmp_path / "gone")
    assert with_confirmed_data(sweep, [private]).data_dir == private


def test_what_a_search_adds_is_signed_and_what_a_stranger_adds_is_not(
    tiny_space: Path, tmp_path: Path, private: Path
) -> None:
    sweep = make(tiny_space, tmp_path, None, SEARCH)
    assert sweep.growth is not None
    plan = GrowingPlan(sweep)
    template = sweep.trials[0]
    plan.add([replace(template, seed=7)], Drawn("ddpm", {"schedule": "linear"}))
    assert is_own(open_sweep(sweep.folder))

    path = sweep.folder / "trials.jsonl"
    before = path.read_bytes()
    added = json.loads(before.splitlines()[-1])
    added["own"] |= {"dataset": {**template.dataset, "name": f"folder:{private}"}}
    lines = [*before.splitlines()[:-1], json.dumps(added).encode()]
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(UsageError, match="is not what its name says"):
        open_sweep(sweep.folder)
    forged = replace(template, seed=7, dataset=added["own"]["dataset"])
    added |= {"id": forged.id}
    path.write_bytes(b"\n".join([*lines[:-1], json.dumps(added).encode()]) + b"\n")
    changed = open_sweep(sweep.folder)
    assert not is_own(changed)
    with pytest.raises(UsageError, match="not made by you"):
        with_confirmed_data(changed, [])


def test_hashes_that_were_emptied_are_another_plan(
    tiny_space: Path, tmp_path: Path, private: Path
) -> None:
    sweep = make(tiny_space, tmp_path, private, SEARCH)
    assert is_own(sweep)
    search = yaml.safe_load((sweep.folder / "sweep.yaml").read_text())["search"]
    edit(sweep, search={**search, "hashes": {}})
    with pytest.raises(UsageError, match="not made by you"):
        with_confirmed_data(open_sweep(sweep.folder), [])


def test_the_key_is_its_users_alone(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "config" / "kod-bench" / "key"
    monkeypatch.delenv("KOD_BENCH_KEY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    sweep = make(tiny_space, tmp_path, None)
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_bytes()) == 32
    assert [path.name for path in key.parent.iterdir()] == ["key"]
    key.chmod(0o666)  # now it may be anybody's
    assert not is_own(sweep)


def test_a_sweep_starts_where_no_key_can_be_kept(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KOD_BENCH_KEY", str(tmp_path / "file" / "key"))
    sweep = make(tiny_space, tmp_path, None)
    assert not (sweep.folder / "signature.json").exists()
    assert not is_own(sweep)
    assert os.listdir(sweep.folder)


def test_hashes_of_no_options_are_damage(tiny_space: Path, tmp_path: Path) -> None:
    sweep = make(tiny_space, tmp_path, None, SEARCH)
    search = yaml.safe_load((sweep.folder / "sweep.yaml").read_text())["search"]
    edit(sweep, search={**search, "hashes": {"{augment: []}": "hash"}})
    with pytest.raises(UsageError, match=r"is damaged: search\.hashes: is no JSON"):
        open_sweep(sweep.folder)


def test_a_draft_of_a_killed_process_is_no_obstacle_to_a_key(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOD_BENCH_KEY", str(tmp_path / "keys" / "key"))
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / f".key.{os.getpid()}").touch()
    assert is_own(make(tiny_space, tmp_path, None))
