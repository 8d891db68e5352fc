"""One odd file of one trial costs that trial, and says so; nothing outside a sweep is touched."""

import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from kod_bench.cli.main import main
from kod_bench.results import read_trial
from kod_bench.sweeps.store.open import open_sweep
from kod_bench.sweeps.trial.run import run_trial, train_and_score
from kod_bench.training.history import sampled_history
from tests.privilege import without_privilege

EARLIER = Path(__file__).parents[1] / "sweeps" / "earlier"
DONE, BEGUN = "kuramoto-local-T4-seed0-c7e905d0", "kuramoto-local-T4-seed1-427b6a0d"
WAY = "matched-ancestral-4"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run kod-bench in this process: exit status, what it printed, what it said of errors."""

    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kod-bench", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capfd.readouterr()
        return code, said.out, said.err

    return command


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep of two trials: one done, one begun. Its files may be changed."""
    folder = tmp_path / "results" / "earlier" / "20261129-155100"
    shutil.copytree(EARLIER, folder)
    return folder


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """The modes of files count, even if root runs the tests."""
    with without_privilege():
        yield


def png(side: int) -> bytes:
    """A picture of one colour, small in bytes whatever its side."""
    whole = io.BytesIO()
    Image.new("1", (side, side)).save(whole, "PNG")
    return whole.getvalue()


DEEP = "[" * 200_000
LONG = "1" * 5000
HUGE = "1" + "0" * 400

ODD_RECORDS = {
    "deep": DEEP,
    "long number": f'{{"iteration": {LONG}, "loss": 1, "error": {LONG}, "kid": {LONG}}}',
    "huge number": f'{{"iteration": 4, "loss": {HUGE}, "error": {HUGE}}}',
    "text as loss": '{"iteration": 4, "loss": "low"}',
    "list": "[1, 2]",
    "text": '"a"',
    "null": "null",
    "not a number": '{"iteration": NaN, "loss": Infinity, "error": null}',
    "no text": "\0\xff\xfe",
    "empty": "",
}


@pytest.mark.parametrize("content", ODD_RECORDS.values(), ids=ODD_RECORDS)
@pytest.mark.parametrize(
    "name",
    [
        f"{BEGUN}/history.jsonl",
        f"{BEGUN}/error.json",
        f"{BEGUN}/rungs.json",
        f"{DONE}/measured-{WAY}.json",
        f"{DONE}/history.jsonl",
    ],
)
def test_a_record_that_is_none_ends_no_command(
    name: str, content: str, sweep: Path, run: Run
) -> None:
    (sweep / "trials" / name).write_bytes(content.encode("latin-1"))
    code, out, err = run("status", sweep)
    assert (code, "Traceback" in err) == (0, False), err
    assert "1 done" in out
    code, out, err = run("report", sweep, "--terminal")
    assert (code, "Traceback" in err) == (0, False), err
    assert "kuramoto-local" in out


def test_the_page_is_written_without_what_cannot_be_read(sweep: Path, run: Run) -> None:
    trial = sweep / "trials" / DONE
    (trial / f"samples-{WAY}.png").write_bytes(b"<script>alert(1)</script>")
    (trial / f"nearest-{WAY}.png").write_bytes(png(30_000))  # 900 megapixels
    (trial / f"trajectory-{WAY}.png").write_bytes(png(64)[:-30])
    (trial / f"forward-end-{WAY.partition('-')[0]}.png").write_bytes(png(64))
    (sweep / "real.png").write_bytes(b"\x89PNG\r\n")
    code, _, err = run("report", sweep)
    assert code == 0, err
    for name in ("samples", "nearest", "trajectory"):
        assert f"warning: {trial}/{name}-{WAY}.png: is left out" in err
    page = (sweep / "report" / "report.html").read_text()
    assert "alert(1)" not in page
    assert "data:image/png;base64" in page  # the one that is sound


def rows_with(sweep: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    path = sweep / "trials" / DONE / "row.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def replaced(table: pa.Table, name: str, value: object) -> pa.Table:
    place = table.column_names.index(name)
    kind = table.schema.field(name).type
    return table.set_column(place, pa.field(name, kind), pa.array([value] * len(table), kind))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: replaced(t, "model", None),
        lambda t: replaced(t, "kid", None),
        lambda t: t.drop_columns(["kid"]),
        lambda t: replaced(t, "model", "m" * 5_000_000),
        lambda t: replaced(t, "model", "red \x1b[31m"),
        lambda t: t.append_column("model", t["model"]),
        lambda t: t.slice(0, 0),
    ],
    ids=["no model", "no kid", "no column kid", "5 MB", "escape", "twice", "no row"],
)
def test_rows_that_are_none_cost_their_trial(
    change: Callable[[pa.Table], pa.Table], sweep: Path, run: Run
) -> None:
    rows_with(sweep, change)
    assert read_trial(sweep / "trials" / DONE) is None
    code, out, err = run("status", sweep)
    assert (code, "1 unreadable" in out) == (0, True), out + err
    code, _, err = run("report", sweep, "--terminal")
    assert code == 2
    assert f"warning: {sweep}/trials/{DONE}/row.parquet cannot be read" in err


def test_more_rows_than_there_can_be_are_not_unpacked(sweep: Path, run: Run) -> None:
    rows_with(sweep, lambda t: pa.concat_tables([t] * 20_000))  # in a megabyte
    assert read_trial(sweep / "trials" / DONE) is None
    code, out, err = run("status", sweep)
    assert (code, "1 unreadable" in out) == (0, True), out + err
    assert "row.parquet cannot be read" in run("report", sweep, "--terminal")[2]


@pytest.mark.parametrize("line", ["\n", "{\n", '{"iteration": 3, "loss": 0.5}\n'])
def test_a_history_of_millions_of_lines_is_not_read_to_show_some(
    line: str, sweep: Path, run: Run
) -> None:
    path = sweep / "trials" / BEGUN / "history.jsonl"
    path.write_bytes(path.read_bytes() + line.encode() * (64 * 2**20 // len(line)))
    run("status", sweep)  # imports take their time, once
    before = time.process_time()
    assert run("status", sweep)[0] == 0
    assert 1 <= len(sampled_history(path, 1000)) <= 1000
    assert time.process_time() - before < 3


@pytest.mark.parametrize("name", [BEGUN, DONE, f"{BEGUN}/checkpoints"])
def test_a_folder_that_cannot_be_listed_costs_its_trial(
    name: str, sweep: Path, run: Run, unprivileged: None
) -> None:
    (sweep / "trials" / name).chmod(0)
    try:
        code, out, err = run("status", sweep)
        assert (code, "Traceback" in err) == (0, False), err
        assert f"warning: {sweep}/trials/{name}: cannot be listed (Permission denied)" in err
        assert ("1 unreadable" in out) == ("checkpoints" not in name)
        _, _, err = run("report", sweep, "--terminal")
        assert (f"{DONE}/row.parquet cannot be read" in err) == (name == DONE)
    finally:
        (sweep / "trials" / name).chmod(0o700)


@pytest.mark.parametrize("content", [None, b""], ids=["a folder", "empty"])
def test_what_lies_in_place_of_a_row_is_unreadable(
    content: bytes | None, sweep: Path, run: Run
) -> None:
    path = sweep / "trials" / DONE / "row.parquet"
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    assert "1 unreadable" in run("status", sweep)[1]
    assert f"{path} cannot be read" in run("report", sweep, "--terminal")[2]


def test_trials_that_cannot_be_listed_are_one_line(
    sweep: Path, run: Run, unprivileged: None
) -> None:
    (sweep / "trials").chmod(0)
    try:
        code, _, err = run("status", sweep)
    finally:
        (sweep / "trials").chmod(0o700)
    assert (code, err) == (2, f"error: {sweep}/trials: cannot be listed (Permission denied)\n")


def test_a_lock_that_may_not_be_written_is_one_line(
    sweep: Path, run: Run, unprivileged: None
) -> None:
    (sweep / "lock").touch(0o400)
    code, _, err = run("resume", sweep, "--quiet")
    assert code == 2
    assert err.splitlines()[-1] == f"error: {sweep}/lock: cannot be written (Permission denied)"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "name",
    [
        f"trials/{BEGUN}/history.jsonl",
        f"trials/{BEGUN}/error.json",
        f"trials/{DONE}/row.parquet",
        f"trials/{DONE}/measured-{WAY}.json",
        f"trials/{DONE}/samples-{WAY}.png",
        f"trials/{BEGUN}/lock",
        "lock",
        ".rows.parquet",
    ],
)
def test_a_pipe_is_not_waited_for(name: str, sweep: Path, run: Run) -> None:
    (sweep / name).unlink(missing_ok=True)
    os.mkfifo(sweep / name)
    for words in (("status", sweep), ("report", sweep, "--terminal")):
        code, _, err = run(*words)
        assert code in (0, 2)
        assert "Traceback" not in err


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["sweep.yaml", "trials.jsonl", "lock"])
def test_a_pipe_in_place_of_the_plan_is_one_line(name: str, sweep: Path, run: Run) -> None:
    (sweep / name).unlink(missing_ok=True)
    os.mkfifo(sweep / name)
    code, _, err = run("resume", sweep)
    assert code == 2
    assert "error" in err.splitlines()[-1]
    assert len(err.splitlines()) <= 3


LINKS = {
    "report": "report",
    "figures": "report/figures",
    "checkpoints": f"trials/{BEGUN}/checkpoints",
    "a trial": f"trials/{BEGUN}",
    "cache": "cache",
    "tensorboard": f"trials/{BEGUN}/tensorboard",
    "study": "study.journal",
    "lock": "lock",
    "picture": f"trials/{DONE}/samples-{WAY}.png",
    "row": f"trials/{DONE}/row.parquet",
    "log": f"trials/{BEGUN}/log.txt",
}


@pytest.mark.parametrize("name", LINKS.values(), ids=LINKS)
@pytest.mark.parametrize("verb", ["status", "report", "resume", "compare"])
def test_a_link_that_leads_out_is_refused_before_anything_is_touched(
    verb: str, name: str, sweep: Path, tmp_path: Path, run: Run
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = outside / "iteration-00000009.pt"
    secret.write_text("a user's own")
    path = sweep / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(outside if "." not in path.name else secret)
    before = {p: p.read_bytes() for p in sweep.rglob("*") if p.is_file() and not p.is_symlink()}
    words = (verb, sweep, sweep) if verb == "compare" else (verb, sweep)
    code, _, err = run(*words)
    assert code == 2
    assert f"{name}: is a link" in err
    assert len(err.splitlines()) == 1
    assert secret.read_text() == "a user's own"
    assert [p.name for p in outside.iterdir()] == [secret.name]
    assert before == {
        p: p.read_bytes() for p in sweep.rglob("*") if p.is_file() and not p.is_symlink()
    }


def test_a_results_folder_that_is_a_link_is_its_users_own(
    sweep: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "bigger-disk").symlink_to(sweep.parents[1])
    code, out, err = run("status", "--results-dir", tmp_path / "bigger-disk")
    assert code == 0, err
    assert "1 done" in out


def test_a_row_names_no_picture_outside(sweep: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "secret.png").write_bytes(png(32))
    up = "../" * 12 + str(tmp_path / "secret").lstrip("/")
    rows_with(sweep, lambda t: replaced(t, "prior", f"x/{up}"))
    rows_with(sweep, lambda t: replaced(t, "trial", str(tmp_path)))
    code, _, err = run("report", sweep)
    assert code == 0, err
    page = (sweep / "report" / "report.html").read_text()
    assert "data:image/png;base64" not in page
    assert not (sweep / "report" / "samples.png").exists()


def test_escapes_are_shown_not_obeyed(sweep: Path, run: Run) -> None:
    reason = "\x1b]0;owned\x07\x1b[2J\u202egnorw"
    record = {"error": reason, "type": "x", "traceback": ""}
    (sweep / "trials" / BEGUN / "error.json").write_text(json.dumps(record))
    for words in (("status", sweep), ("report", sweep, "--markdown", "--terminal")):
        _, out, err = run(*words)
        assert "\x1b" not in out + err
        assert "\u202e" not in out + err
    assert "\\x1b]0;owned\\x07\\x1b[2J\\u202egnorw" in run("status", sweep)[1]


def test_a_checkpoint_with_other_keys_is_passed_over(sweep: Path) -> None:
    checkpoints = sweep / "trials" / BEGUN / "checkpoints"
    good = torch.load(checkpoints / "iteration-00000002.pt", weights_only=True)
    other = {**good, "iteration": 4, "network": {"x": torch.zeros(3)}}
    torch.save(other, checkpoints / "iteration-00000004.pt")
    torch.save({"iteration": 5}, checkpoints / "iteration-00000005.pt")
    opened = open_sweep(sweep)
    (row,) = run_trial(opened, opened.trials[1], lambda _: None, train_and_score)
    assert row.resumed_from == 2
    assert np.isfinite(row.kid)


def lines(said: str) -> list[str]:
    """Each once: in one process, every command that tests run leaves a handler of warnings."""
    return list(dict.fromkeys(said.splitlines()))


def test_what_cannot_be_read_is_named_and_does_not_change_the_status(sweep: Path, run: Run) -> None:
    """Exit status 0: what there is was shown; 2: there is nothing to show (docs/reports.md)."""
    other = sweep.with_name("20261129-160000")
    shutil.copytree(sweep, other)
    row = sweep / "trials" / DONE / "row.parquet"
    row.write_bytes(b"PAR1 is not all of it")
    line = f"warning: {row} cannot be read; resume computes it again"
    code, out, err = run("status", sweep)
    assert (code, lines(err)) == (0, [line])
    assert "1 unreadable" in out
    for words in (("report", sweep, other, "--terminal"), ("compare", other, "published")):
        code, out, err = run(*words)
        assert code == 0, err
        assert "kuramoto-local" in out
    assert run("report", sweep, other, "--terminal")[2].strip().splitlines()[0] == line
    for words in (("report", sweep, "--terminal"), ("compare", sweep, "published")):
        code, out, err = run(*words)
        assert (code, out, lines(err)[0]) == (2, "", line)
    assert f"{sweep}: no row can be read" in run("report", sweep, "--terminal")[2]


@pytest.mark.parametrize("column", ["config", "packages"])
def test_deep_texts_in_rows_end_no_report(column: str, sweep: Path, run: Run) -> None:
    rows_with(sweep, lambda t: replaced(t, column, DEEP))
    code, _, err = run("report", sweep)
    assert (code, "Traceback" in err) == (0, False), err
