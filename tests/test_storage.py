"""Folders on an object store, against a real server."""

import os
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kod_bench import storage
from kod_bench.data import DataError, DatasetOptions, cache_folder, load_dataset
from kod_bench.errors import UsageError
from kod_bench.results import provenance, write_rows
from kod_bench.storage import SCHEMES, ObjectFolder, parse_location
from kod_bench.sweeps.display import status
from kod_bench.sweeps.display.standing import TrialView
from kod_bench.sweeps.plan.files import HISTORY_FILE
from kod_bench.sweeps.plan.frozen import SPACE_FILE, edited_space, keep_space
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.sweep import LOCK_FILE, Sweep
from kod_bench.sweeps.space import load_space
from kod_bench.sweeps.store import lease as lease_module
from kod_bench.sweeps.store import stopping
from kod_bench.sweeps.store.create import create_sweep
from kod_bench.sweeps.store.find import find_sweep
from kod_bench.sweeps.store.lease import LEASE_FILE, is_held, lease
from kod_bench.sweeps.store.locks import LockedError, exclusive_lock
from kod_bench.sweeps.store.mirror import (
    fetch_micro_batch,
    fetch_outcomes,
    fetch_pictures,
    fetch_trial,
    put_micro_batch,
    put_report,
    put_working_files,
)
from kod_bench.sweeps.store.open import open_planned, open_sweep
from kod_bench.sweeps.store.ownership import is_own
from kod_bench.sweeps.store.stopping import stop_check, stop_requested
from kod_bench.sweeps.trial.micro_batch import halve_micro_batch, recorded_micro_batch
from kod_bench.training import CheckpointStore, CurveWriter
from tests.object_store import BUCKET, object_store
from tests.rows import make_row


@pytest.fixture(scope="module", params=SCHEMES)
def bucket(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    with object_store(request.param, tmp_path_factory.mktemp("credentials")) as address:
        yield address


@pytest.fixture
def folder(bucket: str, request: pytest.FixtureRequest) -> ObjectFolder:
    return ObjectFolder(f"{bucket}/{request.node.originalname}")


@pytest.fixture
def sweep(folder: ObjectFolder, tiny_space: Path) -> Sweep:
    space = load_space(tiny_space, "laptop")
    trials = make_trials(space, "hash")
    return create_sweep(
        space, trials, results_dir=folder, data_dir=None, provenance=provenance.collect()
    )


def elsewhere(sweep: Sweep, tmp_path: Path) -> Sweep:
    """The same sweep, seen by a machine that has not worked on it."""
    return replace(sweep, folder=tmp_path / "elsewhere" / sweep.name)


def test_objects_are_written_found_listed_and_deleted(folder: ObjectFolder) -> None:
    assert folder.list() == {}
    assert folder.find("a/b.txt") is None
    with pytest.raises(FileNotFoundError):
        folder.read("a/b.txt")
    folder.write("a/b.txt", b"one")
    folder.write("a/b.txt", b"two, longer")
    assert folder.read("a/b.txt") == b"two, longer"
    assert (folder / "a").read("b.txt") == b"two, longer"
    assert {name: stored.size for name, stored in folder.list().items()} == {"a/b.txt": 11}
    assert folder.folders() == ["a"]
    folder.write("a/c/d.txt", b"")
    folder.write("e/f/g.txt", b"")
    assert folder.folders() == ["a", "e"]
    assert folder.folders(depth=2) == ["a/c", "e/f"]
    for name in ("a/c/d.txt", "e/f/g.txt"):
        folder.delete(name)
    folder.delete("a/b.txt")
    folder.delete("a/b.txt")
    assert folder.list() == {}


def test_why_google_refuses_is_said_in_a_few_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "no-such-key.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    folder = ObjectFolder(f"gs://{BUCKET}/results")
    with pytest.raises(OSError, match="no-such-key") as caught:
        folder.list()
    assert len(str(caught.value)) < len(str(key)) + 60
    with pytest.raises(UsageError, match=f"{folder}: cannot be listed .*no-such-key"):
        find_sweep(None, folder)
    for act in (
        lambda: folder.read("a"),
        lambda: folder.write("a", b""),
        lambda: folder.delete("a"),
        lambda: folder.find("a"),
    ):
        with pytest.raises(OSError, match="no-such-key"):
            act()


def test_a_google_that_is_away_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_GOOGLE_RETRIES", 2)
    with object_store("gs", tmp_path) as bucket:
        folder = ObjectFolder(f"{bucket}/results")
        folder.write("a", b"")
    with pytest.raises(OSError, match=r"^UNAVAILABLE: .*onnect"):
        folder.list()


@pytest.mark.parametrize(
    ("uri", "part"),
    [
        ("s3://AKIA:hunter2@bucket/x", "no credentials"),
        ("s3://AKIA:hun/ter2@bucket", "no credentials"),
        ("s3://AKIA:hun/ter2@bucket/x", "no credentials"),
        ("s3://AKIA:hun/ter2/bucket/x", "no credentials"),  # the @ forgotten
        ("s3://AKIA:hun/ter2%40bucket", "no credentials"),
        ("s3://AKIA/hun/ter2@bucket", "no credentials"),
        ("S3://AKIA:hun/ter2@bucket", "no credentials"),
        (" s3://AKIA:hun/ter2@bucket", "no credentials"),
        ("s3:/AKIA:hun/ter2@bucket", "no credentials"),
        ("s3:AKIA:hun/ter2@bucket", "no credentials"),
        ("gs://AKIA:hun/ter2@bucket", "no credentials"),
        ("https://AKIA:hun/ter2@host/x", "no credentials"),
        ("https://host/hun/ter2", "s3://bucket/prefix"),  # an address may be a secret as a whole
        ("s3://bucket/x?access_key=AKIA&secret_key=hunter2", "no credentials"),
        ("ftp://host/x", "s3://bucket/prefix"),
        ("s3:///x", "s3://bucket/prefix"),
        ("s3://bucket/a/../b", ".."),
    ],
)
def test_a_wrong_address_is_refused_without_repeating_secrets(uri: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_location(uri)
    assert part in str(caught.value)
    for secret in ("AKIA", "hun", "ter2"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize("uri", ["s3://bucket/a:b/100%", "gs://bu.ck-et_1", "s3://b/ü ü/(x)=+,'$"])
def test_names_that_stores_allow_are_no_credentials(uri: str) -> None:
    assert str(parse_location(uri)) == uri


def test_a_plan_goes_round_by_way_of_the_store(sweep: Sweep, folder: ObjectFolder) -> None:
    assert sweep.remote is not None
    found = find_sweep(None, folder)
    assert found == sweep
    assert find_sweep(sweep.remote.uri, Path("unused")) == sweep
    assert find_sweep("tiny", folder).trials == sweep.trials
    one, trial = open_planned(sweep.remote, sweep.trials[1].id)
    assert (one.trials, trial) == ((sweep.trials[1],), sweep.trials[1])
    with pytest.raises(UsageError, match="no sweep 'other'"):
        find_sweep("other", folder)
    with pytest.raises(UsageError, match="is not a sweep"):
        find_sweep(f"{folder.uri}/nothing/here", folder)


def test_another_machine_continues_from_the_newest_checkpoint(sweep: Sweep, tmp_path: Path) -> None:
    trial = sweep.trials[0]
    here, there = sweep, elsewhere(sweep, tmp_path)
    store = CheckpointStore(here.trial_folder(trial) / "checkpoints")
    for iteration in (10, 20, 30):
        store.save(iteration, {"iteration": iteration})
        (here.trial_folder(trial) / "history.jsonl").write_text(f'{{"iteration": {iteration}}}\n')
        put_working_files(here, trial)
    fetch_trial(there, trial)
    moved = CheckpointStore(there.trial_folder(trial) / "checkpoints")
    assert sorted(path.name[-5:] for path in moved.folder.iterdir()) == ["20.pt", "30.pt"]
    assert moved.load_latest() == {"iteration": 30}
    assert "30" in (there.trial_folder(trial) / "history.jsonl").read_text()

    # A torn newest checkpoint costs one interval, not the run.
    assert sweep.remote is not None
    name = f"trials/{trial.id}/checkpoints/iteration-00000030.pt"
    sweep.remote.write(name, sweep.remote.read(name)[:50])
    third = replace(sweep, folder=tmp_path / "third" / sweep.name)
    fetch_trial(third, trial)
    again = CheckpointStore(third.trial_folder(trial) / "checkpoints")
    assert again.load_latest() == {"iteration": 20}

    # A node that is behind sets nothing back: neither the history nor the checkpoints.
    behind = replace(sweep, folder=tmp_path / "behind" / sweep.name)
    behind.trial_folder(trial).mkdir(parents=True)
    (behind.trial_folder(trial) / "history.jsonl").write_text("")
    put_working_files(behind, trial)
    assert b"30" in sweep.remote.read(f"trials/{trial.id}/history.jsonl")

    # One that has gone further is not set back by one that has not.
    moved.save(40, {"iteration": 40})
    put_working_files(there, trial)
    put_working_files(here, trial)
    assert any(stored.endswith("40.pt") for stored in sweep.remote.list())


def test_what_is_done_is_what_the_store_has(sweep: Sweep, tmp_path: Path) -> None:
    first, second, third = sweep.trials
    assert sweep.remote is not None
    # A row that only this machine has was never published.
    folder = sweep.trial_folder(first)
    folder.mkdir(parents=True)
    write_rows(folder, [make_row(trial=first.id)])
    sweep.remote.write(f"trials/{second.id}/row.parquet", (folder / "row.parquet").read_bytes())
    sweep.remote.write(f"trials/{third.id}/row.parquet", b"")
    fetch_outcomes(sweep)
    assert not (folder / "row.parquet").exists()
    assert (sweep.trial_folder(second) / "row.parquet").exists()
    views = status.trial_views(sweep)
    assert [view.state for view in views] == ["waiting", "done", "unreadable"]


def test_what_is_being_worked_on_is_left_alone(sweep: Sweep) -> None:
    trial = sweep.trials[0]
    folder = sweep.trial_folder(trial)
    folder.mkdir(parents=True)
    assert sweep.remote is not None
    sweep.remote.write(f"trials/{trial.id}/{HISTORY_FILE}", b'{"iteration": 5}\n')
    with exclusive_lock(folder / LOCK_FILE, 0.0):  # its process publishes the row last
        write_rows(folder, [make_row(trial=trial.id)])
        assert fetch_outcomes(sweep) == {trial.id}
        fetch_pictures(sweep)
        assert (folder / "row.parquet").exists()
        assert not (folder / HISTORY_FILE).exists()
    fetch_outcomes(sweep)
    assert not (folder / "row.parquet").exists()
    # A history that has grown on another machine is fetched again, an older one is not.
    for lines, expected in ((1, 1), (2, 2), (1, 2)):
        line = b'{"iteration": 5}\n'
        sweep.remote.write(f"trials/{trial.id}/{HISTORY_FILE}", line * lines)
        fetch_pictures(sweep)
        assert (folder / HISTORY_FILE).read_bytes() == line * expected


def test_a_search_without_trials_has_no_pictures(sweep: Sweep) -> None:
    fetch_pictures(replace(sweep, trials=()))


def test_of_an_older_report_nothing_stays(sweep: Sweep, tmp_path: Path) -> None:
    assert sweep.remote is not None
    for names in ({"a.csv", "figures/b.pdf"}, {"a.csv"}):
        folder = tmp_path / str(len(names)) / "report"
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("x")
        assert put_report(sweep, folder) == f"{sweep.remote}/report"
        assert (sweep.remote / "report").list().keys() == names


def test_one_driver_holds_the_lease(folder: ObjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "BEAT_SECONDS", 0.5)
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 4.0)
    monkeypatch.setattr(lease_module, "SETTLE_SECONDS", 0.2)
    said: list[str] = []
    with lease(folder, said.append):
        assert said == []
        assert is_held(folder)
        with pytest.raises(LockedError, match="is being run by"), lease(folder, said.append):
            pass
        assert "waiting up to 4 s" in said[0]
        assert is_held(folder)
    assert not is_held(folder)
    assert folder.list() == {}
    # A holder on another machine who died: the lease runs out.
    folder.write(LEASE_FILE, b'{"host": "gone", "pid": 1, "boot": "other", "id": "x", "beat": 3}')
    began = time.monotonic()
    with lease(folder, said.append):
        assert time.monotonic() - began >= 4.0
    # A holder on this machine who died: at once.
    dead = {"host": "here", "pid": 2**22 + 1, "boot": lease_module._boot(), "id": "y"}
    folder.write(LEASE_FILE, str(dead).replace("'", '"').encode())
    said.clear()
    with lease(folder, said.append):
        assert said == []


def test_a_request_to_stop_reaches_nodes_that_share_no_folder(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "REQUEST_SECONDS", 0.1)
    monkeypatch.setattr(stopping, "_STORE_INTERVAL", 0.1)
    node = elsewhere(sweep, tmp_path)
    assert sweep.remote is not None
    asked = False
    should_stop = stop_check(node)

    def is_told() -> bool:
        deadline = time.monotonic() + 20
        while not should_stop() and time.monotonic() < deadline:
            time.sleep(0.05)
        return should_stop()

    with lease(sweep.remote, lambda _: None, lambda: asked):
        assert not stop_requested(node)
        for _ in range(5):
            assert not should_stop()
            time.sleep(0.1)
        asked = True
        assert is_told()
        assert stop_requested(node)
    # The next driver has not asked for anything, whatever a killed one has left in a folder.
    node.folder.mkdir(parents=True, exist_ok=True)
    (node.folder / "stop").touch()
    with lease(sweep.remote, lambda _: None):
        assert not stop_requested(node)
    sweep.remote.write(LEASE_FILE, b"nonsense")
    assert not stop_requested(node)


def test_a_driver_whose_lease_was_taken_is_told_to_stop_and_then_made_to(
    folder: ObjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "BEAT_SECONDS", 0.3)
    signals: list[float] = []
    before = signal.signal(signal.SIGINT, lambda *_: signals.append(time.monotonic()))
    try:
        with lease(folder, lambda _: None):
            other = b'{"host": "other", "pid": 1, "boot": "other", "id": "x", "beat": 0}'
            folder.write(LEASE_FILE, other)
            deadline = time.monotonic() + 20
            while len(signals) < 2 and time.monotonic() < deadline:
                time.sleep(0.05)
    finally:
        signal.signal(signal.SIGINT, before)
    first, second = signals
    assert second - first >= 0.2
    assert folder.read(LEASE_FILE) == other


def test_resume_elsewhere_knows_the_space_as_it_was(sweep: Sweep, tmp_path: Path) -> None:
    source, there = tmp_path / "space.yaml", elsewhere(sweep, tmp_path)
    source.write_text("a: 1\n")
    keep_space(sweep.folder, source)
    assert edited_space(there) is None
    assert sweep.remote is not None
    sweep.remote.upload([SPACE_FILE], sweep.folder)
    assert edited_space(there) is None
    source.write_text("a: 2\n")
    assert edited_space(there) == source
    source.unlink()
    os.mkfifo(source)  # reading it would never end
    assert edited_space(there) is None


def test_what_a_trial_learnt_about_memory_and_its_curves_are_on_the_store(
    sweep: Sweep, tmp_path: Path
) -> None:
    trial = sweep.trials[0]
    here, there = sweep, elsewhere(sweep, tmp_path)
    for each in (here, there):
        each.trial_folder(trial).mkdir(parents=True)
    halve_micro_batch(here.trial_folder(trial), 64)
    put_micro_batch(here, trial)
    fetch_trial(there, trial)
    assert recorded_micro_batch(there.trial_folder(trial)) == 32
    halve_micro_batch(there.trial_folder(trial), 32)
    put_micro_batch(there, trial)
    # A node that still has the old one does not bring it back, and is told.
    put_working_files(here, trial)
    fetch_micro_batch(here, trial)
    assert recorded_micro_batch(here.trial_folder(trial)) == 16

    def curves() -> dict[str, int]:
        assert sweep.remote is not None
        stored = (sweep.remote / "trials" / trial.id / "tensorboard").list()
        return {name: each.size for name, each in stored.items()}

    with CurveWriter(here.trial_folder(trial) / "tensorboard", 0) as writer:
        writer.add(1, {"loss": 1.0})
        put_working_files(here, trial)
        (before,) = curves().values()
        writer.add(2, {"loss": 0.5})
        put_working_files(here, trial)
        (after,) = curves().values()
    assert 0 < before < after
    with CurveWriter(there.trial_folder(trial) / "tensorboard", 2):
        put_working_files(there, trial)
    assert len(curves()) == 2


def test_images_are_fetched_once_from_an_archive(
    folder: ObjectFolder, tmp_path: Path, cache_dir: Path
) -> None:
    import zipfile

    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    path = tmp_path / "prints.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(8):
            picture = tmp_path / f"{number}.png"
            pixels = generator.integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(picture)
            archive.write(picture, picture.name)
    folder.write("prints.zip", path.read_bytes())
    options = DatasetOptions(name="textures", image_size=16)
    here = load_dataset(options, path, tmp_path / "cache-here")
    there = load_dataset(options, folder / "prints.zip", tmp_path / "cache-there")
    assert there.content_hash == here.content_hash
    (downloaded,) = (tmp_path / "cache-there" / "downloads").glob("*/prints.zip")
    stamp = downloaded.stat().st_mtime_ns
    load_dataset(options, folder / "prints.zip", tmp_path / "cache-there")
    assert downloaded.stat().st_mtime_ns == stamp
    assert mode(downloaded) == 0o600
    assert {mode(path) for path in (downloaded.parent, *downloaded.parents[1:3])} == {0o700}
    with pytest.raises(DataError, match="no such object"):
        load_dataset(options, folder / "nothing.zip", tmp_path / "cache-there")
    with pytest.raises(DataError, match="in one archive"):
        load_dataset(options, folder, tmp_path / "cache-there")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_working_copy_is_its_users_own(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep.remote is not None
    monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "cache"))
    copy = open_sweep(sweep.remote).folder
    assert {mode(path) for path in copy.parents[:3]} == {0o700}
    outside = copy.rename(tmp_path / "outside")
    (outside / "sweep.yaml").write_text("a file of the user's")
    copy.symlink_to(outside)
    with pytest.raises(UsageError, match=f"{copy}: is a link"):
        open_sweep(sweep.remote)
    assert (outside / "sweep.yaml").read_text() == "a file of the user's"
    copy.unlink()
    stranger = os.geteuid() + 54_321
    monkeypatch.setattr(cache_folder, "_owner", lambda _: stranger)
    with pytest.raises(UsageError, match=f"{tmp_path / 'cache'}: belongs to {stranger}"):
        open_sweep(sweep.remote)
    monkeypatch.setenv("KOD_BENCH_CACHE_TRUST", "all")
    assert open_sweep(sweep.remote).folder == copy


def test_looking_at_a_trial_that_runs_here_puts_nothing_over_its_files(sweep: Sweep) -> None:
    trial = sweep.trials[0]
    folder = sweep.trial_folder(trial)
    folder.mkdir(parents=True, exist_ok=True)
    history = folder / HISTORY_FILE
    history.write_text('{"iteration": 5}\n')
    assert sweep.remote is not None
    (sweep.remote / "trials" / trial.id).upload([HISTORY_FILE], folder)
    longer = history.read_text() + '{"iteration": 10}\n'
    history.write_text(longer)
    view = TrialView(trial, "running")
    with exclusive_lock(folder / LOCK_FILE, patience=1.0):
        status.read_details(sweep, [view])
    assert history.read_text() == longer


def test_a_sweep_on_a_store_is_known_as_its_users_own(sweep: Sweep) -> None:
    assert sweep.remote is not None
    assert sweep.remote.find("signature.json") is not None
    (sweep.folder / "signature.json").unlink(missing_ok=True)  # as on another node
    assert is_own(sweep)
    sweep.remote.write("signature.json", b'{"plan": "0"}')
    assert not is_own(sweep)
