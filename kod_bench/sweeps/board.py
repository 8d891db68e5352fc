"""The live view of a sweep: one line per trial, on a terminal; one line per event elsewhere."""

import sys
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kod_bench.results import Row
from kod_bench.sweeps.plan import Trial
from kod_bench.sweeps.progress import Status

_STYLES = {
    "done": "green",
    "failed": "red",
    "waiting": "dim",
    "interrupted": "yellow",
    "stopped": "yellow",
}


@dataclass
class TrialView:
    """What is shown of one trial."""

    trial: Trial
    state: str = "waiting"
    status: Status | None = None
    rows: list[Row] = field(default_factory=list)
    reason: str | None = None

    def cells(self) -> list[Text]:
        """The trial's table row: model, T, seed, state, step, loss, speed, time left, KID.

        The KID of a trial that was scored in several ways is that of the first.
        """
        s, row = self.status, self.rows[0] if self.rows else None
        state = s.phase if self.state == "running" and s else self.state
        loss = s.loss if s else None
        left = s.seconds_left if s else None
        return [
            Text(self.trial.model, overflow="ellipsis"),
            Text(str(self.trial.steps)),
            Text(str(self.trial.seed)),
            Text(state, style=_STYLES.get(self.state, "cyan")),
            Text(f"{s.done}/{s.total}" if s and s.total else ""),
            Text("" if (loss := row.loss if row else loss) is None else f"{loss:.3f}"),
            Text(f"{s.speed:.1f}" if s and s.speed else ""),
            Text("" if left is None else duration(left)),
            Text(f"{row.kid:.3f}" if row else ""),
        ]


_COLUMNS = ("Model", "T", "Seed", "State", "Step", "Loss", "it/s", "Left", "KID")


def trial_table(views: list[TrialView], caption: str = "") -> Table:
    """All trials as a table that fits 80 columns."""
    table = Table(box=None, pad_edge=False, caption=caption or None, caption_justify="left")
    for name in _COLUMNS:
        numeric = name not in ("Model", "State")
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for view in views:
        table.add_row(*view.cells())
    return table


@dataclass
class Board:
    """Collects the trials' states and shows them; use it as a context manager.

    On a terminal a table is redrawn in place. Elsewhere (a file, a pipe, CI) a line is printed
    when a trial starts, finishes or fails.
    """

    trials: tuple[Trial, ...]
    console: Console = field(default_factory=lambda: Console(file=sys.stdout))

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

    def mark_done(self, trial: str, rows: list[Row], quiet: bool = False) -> None:
        """The trial has its rows."""
        view = self.views[trial]
        view.state, view.rows, view.status = "done", rows, None
        if not quiet:
            self._line(f"done     {trial}  KID {rows[0].kid:.3f}  FID {rows[0].fid:.1f}")

    def mark_failed(self, trial: str, reason: str) -> None:
        """The trial ended without a row."""
        view = self.views[trial]
        view.state, view.reason, view.status = "failed", reason, None
        self._line(f"failed   {trial}  {reason}")

    def mark_stopped(self, trial: str) -> None:
        """The trial has saved its state and ended, as the sweep was told to."""
        view = self.views[trial]
        view.state, view.status = "stopped", None
        self._line(f"stopped  {trial}")

    @property
    def running(self) -> set[str]:
        """Ids of the trials that have begun and not ended."""
        return {name for name, view in self.views.items() if view.state == "running"}

    def update(self, trial: str, status: Status) -> None:
        """The trial says what it is doing."""
        view = self.views[trial]
        if view.state != "running" or view.status is None or view.status.phase != status.phase:
            self._line(f"{status.phase:<8} {trial}")
        view.state, view.status = "running", status

    def note(self, text: str) -> None:
        """Say something about the sweep as a whole."""
        self.console.print(text, soft_wrap=True, highlight=False)

    def _line(self, text: str) -> None:
        if self._live is None:
            elapsed = duration(time.monotonic() - self._began)
            self.console.print(f"{elapsed:>7}  {text}", soft_wrap=True, highlight=False)

    def _render(self) -> Table:
        views = list(self.views.values())
        counts = {state: sum(v.state == state for v in views) for state in ("done", "failed")}
        elapsed = duration(time.monotonic() - self._began)
        caption = f"{counts['done']} of {len(views)} done, {counts['failed']} failed, {elapsed}"
        return trial_table(self._visible(views), caption)

    def _visible(self, views: list[TrialView]) -> list[TrialView]:
        """As many trials as the terminal has lines for: active ones before others."""
        return most_active(views, max(3, self.console.height - 4))


def most_active(views: list[TrialView], room: int) -> list[TrialView]:
    """At most `room` trials, in the order of the plan: active ones before others."""
    if len(views) <= room:
        return views
    order = {"running": 0, "failed": 1, "interrupted": 2, "waiting": 3, "done": 4}
    places = sorted(range(len(views)), key=lambda place: order.get(views[place].state, 3))[:room]
    return [views[place] for place in sorted(places)]


def duration(seconds: float) -> str:
    """Seconds as ``42s``, ``3m07s`` or ``2h05m``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
