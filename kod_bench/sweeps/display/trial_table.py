"""The trials of a sweep as a table on a terminal, however narrow."""

from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from kod_bench.results import Row, headline, judged_by
from kod_bench.sweeps.display.standing import TrialView
from kod_bench.visible import visible

_STYLES = {
    "done": "green",
    "failed": "red",
    "waiting": "dim",
    "interrupted": "yellow",
    "stopped": "yellow",
    "pruned": "dim",
}
#: Stands for the middle of a name that is too long.
_LEFT_OUT = "..."
#: Cells that names keep; on a terminal too narrow for that, these columns go, one after another.
_SHORTEST_NAME = 12
_MAY_GO = ("/s", "Left", "Loss", "Seed", "T")
_COLUMNS = ("Model", "T", "Seed", "State", "Step", "Loss", "/s", "Left", "Score")
#: What the last one is called, by what rows are shown by.
_SCORES = {"KID": "KID", "correlation distance": "Correlation"}


def trial_table(views: Iterable[TrialView], width: int, caption: str = "") -> Table:
    """All trials as a table: numbers keep their width, names give way.

    Args:
        views: the trials.
        width: of the terminal, in characters.
        caption: to stand below.
    """
    views = list(views)
    rows = [dict(zip(_COLUMNS, _cells(view), strict=True)) for view in views]
    shown = {"Score": _SCORES[_score_name(views)]}
    widths = {
        name: max([len(shown.get(name, name)), *(cell_len(row[name].plain) for row in rows)])
        for name in _COLUMNS
    }
    longest = widths.pop("Model")
    for name in _MAY_GO:
        if sum(widths.values()) + len(widths) + _SHORTEST_NAME > width:
            del widths[name]  # half a number is another number
    # Between columns; where names must be cut, they need it more.
    space = 2 if longest + sum(widths.values()) + 2 * len(widths) <= width else 1
    room = max(_SHORTEST_NAME, width - sum(widths.values()) - space * len(widths))
    table = Table(
        box=None,
        padding=(0, space, 0, 0),
        pad_edge=False,
        caption=Text(visible(caption)) if caption else None,
        caption_justify="left",
    )
    for name in ("Model", *widths):
        numeric = name not in ("Model", "State")
        table.add_column(
            shown.get(name, name),
            justify="right" if numeric else "left",
            no_wrap=True,
            overflow="crop",
        )
    for row in rows:
        row["Model"].plain = shortened(row["Model"].plain, room)
        table.add_row(row["Model"], *(row[name] for name in widths))
    return table


def shortened(name: str, room: int) -> str:
    """A name in so many cells of a terminal, without its middle: its end tells trials apart.

    The mark is of plain characters, for terminals that have no others.
    """
    if cell_len(name) <= room:
        return name
    kept = room - len(_LEFT_OUT)
    end = name[-kept:]
    while cell_len(end) > (kept + 1) // 2:
        end = end[1:]
    return set_cell_size(name, kept - cell_len(end)) + _LEFT_OUT + end


def _cells(view: TrialView) -> list[Text]:
    """A trial's model, T, seed, state, step, loss, speed, time left and score.

    The score is KID, or of angles their own. A trial that was scored in several ways shows that
    which it is judged by; a pruned one has none that could be compared.
    """
    s, row = view.status, judged_by(view.rows) if view.rows else None
    pruned = row is not None and row.pruned_at is not None
    state = "pruned" if pruned else s.phase if view.state == "running" and s else view.state
    loss = s.loss if s else None
    left = s.seconds_left if s else None
    return [
        Text(view.trial.model),
        Text(str(view.trial.steps)),
        Text(str(view.trial.seed)),
        Text(state, style=_STYLES.get("pruned" if pruned else view.state, "cyan")),
        Text(f"{s.done}/{s.total}" if s and s.total else ""),
        Text("" if (loss := row.loss if row else loss) is None else f"{loss:.3f}"),
        Text(f"{s.speed:.1f}" if s and s.speed else ""),
        Text("" if left is None else duration(left)),
        Text(_score(row) if row and not pruned and not row.rehearsal else ""),
    ]


def _score(row: Row) -> str:
    name, value = headline(row)
    return f"{value:.3f}" if name == "KID" else f"{value:.4f}"


def _score_name(views: Iterable[TrialView]) -> str:
    """What the trials that have rows are shown by."""
    return next((headline(judged_by(view.rows))[0] for view in views if view.rows), "KID")


def duration(seconds: float) -> str:
    """Seconds as ``42s``, ``3m07s`` or ``2h05m``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
