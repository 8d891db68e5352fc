"""The status of a sweep of 10,000 finished trials: a listing, not 10,000 reads."""

from dataclasses import replace
from pathlib import Path

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer
from werkzeug.serving import WSGIRequestHandler

from kod_bench.results import Row, provenance, read_trial, write_rows
from kod_bench.storage import ObjectFolder
from kod_bench.sweeps.display import status
from kod_bench.sweeps.display.board import most_active
from kod_bench.sweeps.display.status import read_details, trial_views
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.space import load_space
from kod_bench.sweeps.store.create import create_sweep
from tests.object_store import bucket_in_environment
from tests.rows import make_row

COUNT = 10_000
SHOWN = 100


@pytest.fixture
def sweep(tiny_space: Path, tmp_path: Path) -> Sweep:
    space = load_space(tiny_space, "laptop")
    (first, *_) = make_trials(space, "hash")
    trials = tuple(replace(first, seed=seed) for seed in range(COUNT))
    return create_sweep(
        space, trials, results_dir=tmp_path, data_dir=None, provenance=provenance.collect()
    )


@pytest.fixture
def row(tmp_path: Path) -> bytes:
    (tmp_path / "one").mkdir()
    return write_rows(tmp_path / "one", [make_row()]).read_bytes()


def check_status(sweep: Sweep) -> None:
    views = trial_views(sweep)
    assert len(views) == COUNT
    assert {view.state for view in views} == {"done"}
    shown = most_active(views, SHOWN)
    read_details(sweep, shown)
    assert all(len(view.rows) == 1 for view in shown)


def test_on_this_machine(sweep: Sweep, row: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(folder: Path) -> list[Row] | None:
        read.append(folder)
        return read_trial(folder)

    monkeypatch.setattr(status, "read_trial", counted)
    for trial in sweep.trials:
        folder = sweep.trial_folder(trial)
        folder.mkdir()
        (folder / "row.parquet").write_bytes(row)
    check_status(sweep)
    assert len(read) == SHOWN


def test_on_an_object_store(sweep: Sweep, row: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[str] = []
    log = WSGIRequestHandler.log_request

    def counted(self: WSGIRequestHandler, *details: object) -> None:
        requests.append(self.requestline)
        log(self, *details)

    monkeypatch.setattr(WSGIRequestHandler, "log_request", counted)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        backend.create_bucket("many", "us-east-1")
        for trial in sweep.trials:
            backend.put_object("many", f"sweep/trials/{trial.id}/row.parquet", row)
        host, port = server.get_host_and_port()
        with bucket_in_environment(f"http://{host}:{port}"):
            check_status(replace(sweep, remote=ObjectFolder("s3://many/sweep")))
        listings = [line for line in requests if "list-type=2" in line]
        assert COUNT // 1000 <= len(listings) <= COUNT // 1000 + 2
        # Of an object that is read, its size is asked for first.
        assert len(requests) <= len(listings) + 2 * SHOWN + 5
    finally:
        server.stop()
