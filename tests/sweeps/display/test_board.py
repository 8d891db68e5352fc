"""What is shown of a running sweep, without one."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from kod_bench.sweeps.cost.dry_run import DryRun
from kod_bench.sweeps.display.board import Board, JsonBoard, QuietBoard
from kod_bench.sweeps.display.standing import TrialView, standing
from kod_bench.sweeps.display.trial_table import trial_table
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.progress import Status
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.space import load_space
from tests.rows import make_row


@pytest.fixture
def trials(tiny_space: Path) -> tuple[Trial, ...]:
    return make_trials(load_space(tiny_space, "laptop"), "hash")


def play(board: Board) -> None:
    """One trial is done, one runs, one has failed."""
    first, second, third = board.trials
    board.update(first.id, Status("training", 5, 40, 1.0, 2.0, 17.5))
    board.mark_done(first.id, [make_row(kid=0.1, prior="forward"), make_row(kid=1.25)])
    board.update(second.id, Status("preparing"))
    board.update(second.id, Status("training", 10, 40, math.nan, 3.0, 10.0))
    board.mark_failed(third.id, "loss is nan at iteration 5")


def shown(board: Board) -> str:
    assert isinstance(board.console.file, io.StringIO)
    return board.console.file.getvalue()


def test_the_table_names_leaders_speed_time_left_and_failures(trials: tuple[Trial, ...]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=40)
    board = Board(trials, console)
    with board:
        play(board)
        console.print(board._render())
    text = shown(board)
    assert "1 of 3 done, 1 failed" in text
    assert "3.0 it/s" in text
    assert "about 0s left" in text  # as long as the first took
    assert f"best KID: {trials[0].model} 1.250" in text  # not that of the forward chains
    assert f"failed {trials[2].id}: loss is nan at iteration 5" in text


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("name", ["kuramoto " + "training.ema_decay=0.99 " * 6, "\u6269" * 90, "a"])
def test_numbers_keep_their_width_and_names_give_way(
    trials: tuple[Trial, ...], name: str, width: int
) -> None:
    named = [replace(trial, model=f"{name}{i}") for i, trial in enumerate(trials)]
    views = [
        TrialView(trial, "running", Status("preparing", 99_000, 100_000, 0.125, 321.5, 3723.0))
        for trial in named
    ]
    views[0] = TrialView(named[0], "done", rows=[make_row(kid=1.25)])
    console = Console(file=io.StringIO(), width=width)
    console.print(trial_table(views, console.width))
    assert isinstance(console.file, io.StringIO)
    heads, *lines = console.file.getvalue().splitlines()
    assert [*map(cell_len, (heads, *lines))] == [cell_len(heads)] * 4
    assert cell_len(heads) <= width
    assert heads.split() == ["Model", "T", "Seed", "State", "Step", "Loss", "/s", "Left", "KID"]
    assert lines[0].split()[-1] == "1.250"
    for line in lines[1:]:
        assert line.split()[-4:] == ["99000/100000", "0.125", "321.5", "1h02m"]
    # The ends of names are there, which tell trials apart.
    steps = [str(trial.steps) for trial in trials]
    ends = [line.partition(f" {step} ")[0] for line, step in zip(lines, steps, strict=True)]
    assert [end.rstrip()[-1] for end in ends] == ["0", "1", "2"]


def test_on_a_narrow_terminal_columns_go_and_no_number_is_cut(trials: tuple[Trial, ...]) -> None:
    status = Status("training", 99_000, 100_000, 0.125, 321.5, 3723.0)
    views = [TrialView(replace(trials[0], model="kuramoto " * 20), "running", status)]
    console = Console(file=io.StringIO(), width=50)
    console.print(trial_table(views, console.width))
    assert isinstance(console.file, io.StringIO)
    heads, line = console.file.getvalue().splitlines()
    assert heads.split() == ["Model", "T", "Seed", "State", "Step", "KID"]
    assert line.split()[-3:] == ["0", "training", "99000/100000"]


def test_lines_where_there_is_no_terminal(trials: tuple[Trial, ...]) -> None:
    board = Board(trials, Console(file=io.StringIO(), width=80))
    with board:
        play(board)
    lines = [line.split(maxsplit=1)[1] for line in shown(board).splitlines()]
    assert lines == [
        f"training {trials[0].id}",
        f"done     {trials[0].id}  KID 1.250  FID 600.0  (1 of 3)",
        f"preparing {trials[1].id}",
        f"training {trials[1].id}",
        f"failed   {trials[2].id}  loss is nan at iteration 5",
    ]


def test_angles_are_shown_by_their_own_metric(trials: tuple[Trial, ...]) -> None:
    row = make_row(kid=7.25, correlation_distance=0.01234)
    views = [TrialView(trials[0], "done", rows=[row]), TrialView(trials[1])]
    console = Console(file=io.StringIO(), width=100)
    console.print(trial_table(views, console.width))
    assert isinstance(console.file, io.StringIO)
    heads, line, _ = console.file.getvalue().splitlines()
    assert heads.split()[-1] == "Correlation"
    assert line.split()[-1] == "0.0123"
    assert "7.25" not in console.file.getvalue()
    board = JsonBoard(trials, Console(file=io.StringIO()))
    board.mark_done(trials[0].id, [row])
    board.finished({}, stopped=False, report=None)
    last = json.loads(shown(board).splitlines()[-1])
    assert last["best"] == {"correlation distance": {trials[0].model: 0.01234}}
    assert last["best_kid"] == {}


def test_quiet_is_quiet(trials: tuple[Trial, ...]) -> None:
    board = QuietBoard(trials, Console(file=io.StringIO(), force_terminal=True))
    with board:
        play(board)
        board.note("something")
    assert shown(board) == ""


def test_every_event_is_one_json_object(trials: tuple[Trial, ...]) -> None:
    board = JsonBoard(trials, Console(file=io.StringIO(), force_terminal=True, width=20))
    with board:
        board.begin("results/tiny/1")
        play(board)
        board.finished({trials[2].id: "loss"}, stopped=False, report="x")
    events = [json.loads(line) for line in shown(board).splitlines()]
    kinds = ["sweep", "started", "status", "done", "started", "status", "status", "failed"]
    assert [event["event"] for event in events] == [*kinds, "finished"]
    assert all("time" in event for event in events)
    assert [row["kid"] for row in events[3]["rows"]] == [0.1, 1.25]
    assert events[6]["loss"] is None  # NaN is no JSON
    assert (events[-1]["done"], events[-1]["trials"]) == (1, 3)


def test_time_left_counts_what_waits_and_what_runs_at_once(trials: tuple[Trial, ...]) -> None:
    one, two, three = trials
    done = TrialView(one, "done", began=0.0, ended=100.0)
    running = TrialView(two, "running", Status("training"), began=100.0)
    waiting = TrialView(three)
    assert standing([done, running, waiting], 140.0).seconds_left == 60 + 100
    assert standing([running, waiting], 140.0).seconds_left is None
    # One of two places is free for a moment: it will be taken.
    also = TrialView(one, "done", began=40.0, ended=140.0)
    busy = TrialView(two, "running", began=40.0)
    left = standing([also, busy, waiting, waiting], 141.0).seconds_left
    assert left is not None
    assert 99 <= left <= 101
    says = TrialView(two, "running", Status("training", seconds_left=20.0), began=100.0)
    assert standing([says, waiting], 140.0).seconds_left == 20 + 60


def test_texts_in_events_act_on_no_terminal_of_who_reads_them(trials: tuple[Trial, ...]) -> None:
    board = JsonBoard(trials, Console(file=io.StringIO()))
    hostile = "\x1b[2J\x7f\x9b\u202e s3://AKIA:hun/ter2@bucket"
    board.note(hostile)
    board.mark_failed(trials[0].id, hostile)
    board.finished({trials[0].id: hostile}, stopped=True, report=hostile)
    for line in shown(board).splitlines():
        assert line.isprintable()
        for text in json.loads(line).values():
            spelled = json.dumps(text, ensure_ascii=False)
            assert spelled.isprintable(), spelled
            assert "ter2" not in spelled


def test_a_plan_of_long_names_keeps_its_numbers(tiny_space: Path) -> None:
    steps = ", ".join(str(1000 + i) for i in range(50))
    text = tiny_space.read_text().replace("ddpm: {process: ddpm, steps: {grid: [4, 8]}}", "")
    name = "a model of a very long name " * 4
    tiny_space.write_text(
        text.replace(
            "profiles:", f'  "{name}": {{process: ddpm, steps: {{grid: [{steps}]}}}}\nprofiles:'
        )
    )
    space = load_space(tiny_space, "laptop")
    console = Console(file=io.StringIO(), width=60)
    console.print(DryRun(space, cpus=2, gpus=0, at_once=2, cost=None).table)
    assert isinstance(console.file, io.StringIO)
    (line,) = [line for line in console.file.getvalue().splitlines() if "1000-1049" in line]
    assert line.split()[-5:] == ["1000-1049", "1000-1049", "50", "40", "8"]
