"""--json, of a real sweep; what --quiet prints is in test_surviving.py."""

import json
import re
from pathlib import Path

from tests.cli.processes import edit, only_sweep
from tests.conftest import Command


def test_json_prints_events(kod_bench: Command, tiny_space: Path, tmp_path: Path) -> None:
    tiny_space.write_text(re.sub(r"  kuramoto-local:\n(    .*\n)+", "", tiny_space.read_text()))
    edit(tiny_space, "steps: {grid: [4, 8]}", "steps: {grid: [4]}")
    done = kod_bench("sweep", tiny_space, "--results-dir", tmp_path / "json", "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    folder = only_sweep(tmp_path / "json")
    (trial,) = (path.name for path in (folder / "trials").iterdir())
    assert (events[0]["event"], events[0]["sweep"]) == ("sweep", str(folder))
    assert events[0]["trials"] == [trial]
    kinds = [event["event"] for event in events]
    assert [k for k in kinds if k not in ("status", "note")] == [
        "sweep",
        "started",
        "done",
        "finished",
    ]
    training = [e for e in events if e["event"] == "status" and e["phase"] == "training"]
    assert training[-1]["done"] == 40
    (row,) = next(e for e in events if e["event"] == "done")["rows"]
    assert row["trial"] == trial
    assert isinstance(row["kid"], float)
    assert events[-1]["best_kid"] == {"ddpm": row["kid"]}
    assert Path(events[-1]["report"]).exists()
    again = kod_bench("resume", folder, "--json")
    assert [json.loads(x)["event"] for x in again.stdout.splitlines()] == ["sweep", "finished"]
    assert [*(folder / "trials" / trial / "tensorboard").iterdir()]


def test_quiet_and_json_exclude_each_other(kod_bench: Command, tiny_space: Path) -> None:
    done = kod_bench("sweep", tiny_space, "--quiet", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --quiet and --json: choose one of them\n"
