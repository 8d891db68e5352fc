"""A search that learns, on Ray: killed, resumed, and looked at with Optuna's own tools."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import optuna
import pytest

from kod_bench.results import read_rows
from kod_bench.sweeps.search.early_stopping import read_rungs
from tests.cli.processes import only_sweep, row_files, started, wait_for
from tests.conftest import TINY_SPACE, Command

SEARCH = (
    re.sub(r"  kuramoto-local:\n(    .*\n)+", "", TINY_SPACE)
    .replace("warmup: 5", "warmup: 5, learning_rate: {loguniform: [1e-4, 1e-2]}")
    .replace("{grid: [4, 8]}", "4")
    .replace("profiles:", "search: {strategy: optuna, trials: 5, seed: 3}\nprofiles:")
)


def lines(sweep: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (sweep / "trials.jsonl").read_text().splitlines()[1:]]


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


@pytest.mark.slow
@pytest.mark.timeout(950)
def test_a_killed_search_goes_on_and_opens_in_the_dashboard(
    command: list[str], kod_bench: Command, tmp_path: Path
) -> None:
    (tmp_path / "search.yaml").write_text(SEARCH)
    results = tmp_path / "results"
    with started(
        command, "sweep", tmp_path / "search.yaml", "--results-dir", results, "--json"
    ) as driver:
        wait_for(lambda: list(results.glob("*/*/trials/*/row.parquet")), "a row", 400)
        os.kill(driver.pid, signal.SIGKILL)
    sweep = only_sweep(results)
    before, rows = lines(sweep), row_files(sweep)
    assert 1 <= len(rows) <= len(before) < 5
    status = kod_bench("status", sweep)
    assert f"{5 - len(before)} not chosen yet" in status.stdout
    assert f"continue with: kod-bench resume {sweep}" in status.stdout

    done = kod_bench("resume", sweep, "--json", timeout=500)
    assert done.returncode == 0, done.stderr
    after = lines(sweep)
    assert after[: len(before)] == before  # what was begun is finished as the same trials
    assert len({line["drawn"]["training.learning_rate"] for line in after}) == len(after) == 5
    assert {line["id"] for line in after} == row_files(sweep).keys()
    assert {name: row_files(sweep)[name] for name in rows} == rows
    events = [json.loads(line) for line in done.stdout.splitlines()]
    chosen = [event["trial"] for event in events if event["event"] == "chosen"]
    assert chosen == [line["id"] for line in after[len(before) :]]
    assert (events[-1]["trials"], events[-1]["done"]) == (5, 5)

    journal = sweep / "study.journal"
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    study = optuna.load_study(
        study_name=sweep.name, storage=optuna.storages.JournalStorage(backend)
    )
    assert [trial.user_attrs["trials"] for trial in study.trials] == [[x["id"]] for x in after]
    kids = {e["trial"]: e["rows"][0]["kid"] for e in events if e["event"] == "done"}
    for trial in study.trials:
        assert trial.state == optuna.trial.TrialState.COMPLETE
        name = trial.user_attrs["trials"][0]
        assert trial.value == kids.get(name, trial.value)
    _opens_in_the_dashboard(journal, study)


def _opens_in_the_dashboard(journal: Path, study: optuna.Study) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dashboard = Path(sys.executable).with_name("optuna-dashboard")
    server = subprocess.Popen(
        [dashboard, journal, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:

        def answers() -> bool:
            assert server.poll() is None
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    return True
            except OSError:
                return False

        wait_for(answers, "the dashboard")
        (shown,) = fetch(f"{url}/api/studies")["study_summaries"]
        assert shown["study_name"] == study.study_name
        detail = fetch(f"{url}/api/studies/{shown['study_id']}?after=0")
        assert [t["values"] for t in detail["trials"]] == [t.values for t in study.trials]
        assert detail["best_trials"][0]["number"] == study.best_trial.number
    finally:
        server.kill()
        server.wait()


@pytest.mark.endurance
@pytest.mark.timeout(950)
def test_early_stopping_is_continued_after_a_kill(
    command: list[str], kod_bench: Command, tmp_path: Path
) -> None:
    """Of trials that reach the rung, only the best so far trains on."""
    asha = "early_stopping: asha, asha: {min_iterations: 10, reduction_factor: 8, samples: 8}"
    (tmp_path / "search.yaml").write_text(SEARCH.replace("seed: 3", f"seed: 3, {asha}"))
    results = tmp_path / "results"
    with started(
        command, "sweep", tmp_path / "search.yaml", "--results-dir", results, "--json"
    ) as driver:
        wait_for(lambda: list(results.glob("*/*/trials/*/row.parquet")), "a row", 400)
        os.kill(driver.pid, signal.SIGKILL)
    sweep = only_sweep(results)
    rows = row_files(sweep)
    before = {name: read_rungs(sweep / "trials" / name) for name in rows}
    done = kod_bench("resume", sweep, timeout=500)
    assert done.returncode == 0, done.stderr
    assert {name: row_files(sweep)[name] for name in rows} == rows

    found = {row.trial: row for row in read_rows(sweep / "trials").rows}
    assert len(found) == 5
    for name, row in found.items():
        (rung,) = read_rungs(sweep / "trials" / name).values()
        assert (row.pruned_at is None) == (rung.goes_on is True)
        assert (row.iterations, row.sample_count) == ((40, 16) if rung.goes_on else (10, 8))
        assert before.get(name, {10: rung}) == {10: rung}
    pruned = {name for name, row in found.items() if row.pruned_at is not None}
    best = min(found, key=lambda name: read_rungs(sweep / "trials" / name)[10].value)
    assert pruned
    assert best not in pruned
    tables, _, provenance = done.stdout.partition("## Provenance")
    said = "row is" if len(pruned) == 1 else "rows are"
    assert f"{len(pruned)} {said} excluded: stopped early by the search" in provenance
    for name, row in found.items():
        assert (f"| {row.model} " in tables) == (name not in pruned)
    status = kod_bench("status", sweep).stdout
    assert status.count("pruned") == len(pruned)
