"""What a running sweep shows: a live table on a terminal, else lines; or nothing; or JSON.

Who runs a sweep by hand looks at the table. Who keeps its output in a file gets a line per event.
`--quiet` leaves only what goes wrong, and `--json` is for other programs.
"""

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from kod_bench.results import Row, judged_by
from kod_bench.sweeps.display.standing import Standing, TrialView, scores_of, standing
from kod_bench.sweeps.display.trial_table import duration, trial_table
from kod_bench.sweeps.plan.progress import Status
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.visible import visible

Output = Literal["auto", "quiet", "json"]

#: So many failures are named under the live table; all of them at the end.
_SHOWN_FAILURES = 3


@dataclass
class Board:
    """Collects the trials' states and shows them; use it as a context manager.

    On a terminal a table is redrawn in place, with the standing of the sweep under it. Elsewhere
    (a file, a pipe, CI) a line is printed when a trial enters a phase, finishes or fails.
    """

    trials: tuple[Trial, ...]
    console: Console = field(default_factory=lambda: Console(file=sys.stdout))
    total: int = 0  # of trials in the end, where that is more

    def __post_init__(self) -> None:
        self.views = {trial.id: TrialView(trial) for trial in self.trials}
        self._began = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self._render, console=self.console, refresh_per_second=2
            )
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, value, trace)
            self._live = None

    @property
    def running(self) -> set[str]:
        """Ids of the trials that have begun and not ended."""
        return {name for name, view in self.views.items() if view.state == "running"}

    @property
    def failures(self) -> dict[str, str]:
        """Trials that have failed in this run, and why."""
        return {
            name: view.reason or "not recorded"
            for name, view in self.views.items()
            if view.state == "failed"
        }

    @property
    def standing(self) -> Standing:
        """How the sweep stands now."""
        return standing(self.views.values(), time.monotonic(), self.total - len(self.views))

    def wait_again(self, trial: Trial) -> None:
        """A trial that had ended will begin once more."""
        self.views[trial.id] = TrialView(trial)

    def add(self, trials: Iterable[Trial]) -> None:
        """Trials were added to the plan."""
        for trial in trials:
            self.views[trial.id] = TrialView(trial)
            self.on_added(trial)

    def update(self, trial: str, status: Status) -> None:
        """The trial says what it is doing."""
        view = self.views[trial]
        begins = view.state != "running"
        enters = begins or view.status is None or view.status.phase != status.phase
        if begins:
            view.began = time.monotonic()
        view.state, view.status = "running", status
        self.on_status(view, status, begins, enters)

    def mark_done(self, trial: str, rows: list[Row], earlier: bool = False) -> None:
        """The trial has its rows; `earlier`: since before this run."""
        view = self._end(trial, "done")
        view.rows = rows
        if not earlier:
            self.on_done(view)

    def mark_failed(self, trial: str, reason: str) -> None:
        """The trial ended without a row."""
        view = self._end(trial, "failed")
        view.reason = reason
        self.on_failed(view, reason)

    def mark_stopped(self, trial: str) -> None:
        """The trial has saved its state and ended, as the sweep was told to."""
        self.on_stopped(self._end(trial, "stopped"))

    def note(self, text: str) -> None:
        """Say something about the sweep as a whole."""
        self.console.print(visible(text), soft_wrap=True, highlight=False, markup=False)

    def error(self, text: str) -> None:
        """Say what has ended the sweep, on stderr."""
        sys.stderr.write(f"error: {visible(text)}\n")
        sys.stderr.flush()

    def begin(self, sweep: str) -> None:
        """The sweep in this folder begins, or goes on."""

    def finished(self, failures: dict[str, str], *, stopped: bool, report: str | None) -> None:
        """The sweep has ended."""

    # What each kind of output does differently.

    def on_added(self, trial: Trial) -> None:
        """A trial was chosen."""

    def on_status(self, view: TrialView, status: Status, begins: bool, enters: bool) -> None:
        """A trial reports; `begins`: for the first time; `enters`: a phase."""
        if enters:
            self._line(f"{status.phase:<8} {view.trial.id}")

    def on_done(self, view: TrialView) -> None:
        """A trial has finished."""
        now, row = self.standing, judged_by(view.rows)
        left = "" if now.seconds_left is None else f", about {duration(now.seconds_left)} left"
        how = f"done     {view.trial.id}  {scores_of(row)}"
        if row.pruned_at is not None:
            how = f"pruned   {view.trial.id}  at iteration {row.pruned_at}"
        self._line(f"{how}  ({now.done} of {now.trials}{left})")

    def on_failed(self, view: TrialView, reason: str) -> None:
        """A trial has failed."""
        self._line(f"failed   {view.trial.id}  {reason}")

    def on_stopped(self, view: TrialView) -> None:
        """A trial was stopped."""
        self._line(f"stopped  {view.trial.id}")

    def _end(self, trial: str, state: str) -> TrialView:
        view = self.views[trial]
        view.state, view.status, view.ended = state, None, time.monotonic()
        return view

    def _line(self, text: str) -> None:
        if self._live is None:
            elapsed = duration(time.monotonic() - self._began)
            line = visible(f"{elapsed:>7}  {text}")
            self.console.print(line, soft_wrap=True, highlight=False, markup=False)

    def _render(self) -> Table:
        views = list(self.views.values())
        caption = summary(self.standing, time.monotonic() - self._began)
        failed = [view for view in views if view.state == "failed"]
        caption += [f"failed {v.trial.id}: {v.reason}" for v in failed[-_SHOWN_FAILURES:]]
        visible = self._visible(views, len(caption))
        return trial_table(visible, self.console.width, "\n".join(caption))

    def _visible(self, views: list[TrialView], below: int) -> list[TrialView]:
        """As many trials as the terminal has lines for: active ones before others."""
        return most_active(views, max(3, self.console.height - 3 - below))


class QuietBoard(Board):
    """Shows nothing while the sweep runs but what ends it."""

    def __enter__(self) -> Self:
        return self

    def note(self, text: str) -> None:
        """Say nothing."""

    def _line(self, text: str) -> None:
        pass


class JsonBoard(QuietBoard):
    """One JSON object per line on stdout; docs/surviving.md lists the events."""

    def note(self, text: str) -> None:
        """What others print as a line."""
        self._emit("note", text=text)

    def on_added(self, trial: Trial) -> None:
        """Those that were in the plan are in the first event."""
        self._emit("chosen", trial=trial.id, model=trial.model)

    def on_status(self, view: TrialView, status: Status, begins: bool, enters: bool) -> None:
        """Every report is an event."""
        if begins:
            self._emit("started", trial=view.trial.id, model=view.trial.model)
        self._emit("status", trial=view.trial.id, **asdict(status))

    def on_done(self, view: TrialView) -> None:
        """With all rows, as they are in the row file."""
        self._emit("done", trial=view.trial.id, rows=[asdict(row) for row in view.rows])

    def on_failed(self, view: TrialView, reason: str) -> None:
        """With the reason."""
        self._emit("failed", trial=view.trial.id, reason=reason)

    def on_stopped(self, view: TrialView) -> None:
        """It goes on with resume."""
        self._emit("stopped", trial=view.trial.id)

    def begin(self, sweep: str) -> None:
        """Always the first event."""
        self._emit("sweep", sweep=sweep, trials=[trial.id for trial in self.trials])

    def finished(self, failures: dict[str, str], *, stopped: bool, report: str | None) -> None:
        """The last event, unless the process is killed or Ray dies."""
        now = self.standing
        self._emit(
            "finished",
            trials=now.trials,
            done=now.done,
            failures=failures,
            stopped=stopped,
            best_kid=now.best if now.score == "KID" else {},
            best={now.score: now.best},
            report=report,
        )

    def _emit(self, event: str, **values: Any) -> None:
        self.console.file.write(event_line(event, **values) + "\n")
        self.console.file.flush()


def event_line(event: str, **values: Any) -> str:
    """An event for other programs, as one line of JSON."""
    record = {"event": event, "time": datetime.now(UTC).isoformat(), **values}
    # A loss that is not finite would make a line that JSON readers refuse; a text of a file is
    # printed by whoever reads the line, and acts on their terminal no more than here.
    return json.dumps(_plain(record), allow_nan=False)


def make_board(trials: tuple[Trial, ...], output: Output, total: int = 0) -> Board:
    """The board for a kind of output; `total`: of trials in the end, where that is more."""
    boards: dict[Output, type[Board]] = {"auto": Board, "quiet": QuietBoard, "json": JsonBoard}
    return boards[output](trials, total=total)


def summary(now: Standing, elapsed: float) -> list[str]:
    """The standing of a sweep in one or two lines."""
    parts = [f"{now.done} of {now.trials} done", f"{now.failed} failed", duration(elapsed)]
    if now.seconds_left is not None:
        parts.append(f"about {duration(now.seconds_left)} left")
    if now.speed:
        parts.append(f"{now.speed:.1f} it/s")
    lines = [", ".join(parts)]
    if now.best:
        lines.append(now.best_line)
    return lines


def most_active(views: list[TrialView], room: int) -> list[TrialView]:
    """At most `room` trials, in the order of the plan: active ones before others."""
    if len(views) <= room:
        return views
    order = {"running": 0, "failed": 1, "interrupted": 2, "waiting": 3, "done": 4}
    places = sorted(range(len(views)), key=lambda place: order.get(views[place].state, 3))[:room]
    return [views[place] for place in sorted(places)]


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {_plain(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
