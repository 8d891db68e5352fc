"""How a running sweep stands: what is done, who leads, how fast, how long yet."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from kod_bench.results import FORWARD_START, Row, headline
from kod_bench.sweeps.plan.progress import Status
from kod_bench.sweeps.plan.trial import Trial


@dataclass
class TrialView:
    """What is shown of one trial. Times are of this run, by the monotonic clock, in seconds."""

    trial: Trial
    state: str = "waiting"
    status: Status | None = None
    rows: list[Row] = field(default_factory=list)
    reason: str | None = None
    began: float | None = None
    ended: float | None = None


@dataclass(frozen=True)
class Standing:
    """A sweep at one moment."""

    trials: int
    done: int
    failed: int
    best: dict[str, float]  # model to the lowest headline score of its trials so far
    score: str  # what that is called
    speed: float  # training iterations per second, of all trials together
    seconds_left: float | None  # a guess; None while there is nothing to guess from

    @property
    def best_line(self) -> str:
        """The best of each model, in words."""
        each = (f"{model} {value:.3f}" for model, value in self.best.items())
        return f"best {self.score}: {', '.join(each)}"


def scores_of(row: Row) -> str:
    """What a row's samples have scored, in a few words."""
    if row.rehearsal:
        return "rehearsed"
    name, value = headline(row)
    return f"KID {row.kid:.3f}  FID {row.fid:.1f}" if name == "KID" else f"{name} {value:.4f}"


def standing(views: Iterable[TrialView], now: float, to_come: int = 0) -> Standing:
    """Sum up the trials' views; `to_come` more are yet to be chosen.

    The time left supposes that trials take as long as those that ended in this run, or else as
    long as the running ones say, and that as many run at once as do now, or did until now.
    """
    views, to_come = list(views), max(0, to_come)
    best: dict[str, float] = {}
    score = "KID"
    for view in views:
        for row in view.rows:
            # Samples that start from real images' noise are no generative model's score, and
            # those of a pruned trial, or of a rehearsal, are few.
            if row.prior != FORWARD_START and row.pruned_at is None and not row.rehearsal:
                score, value = headline(row)
                best[view.trial.model] = min(value, best.get(view.trial.model, value))
    training = [v.status for v in views if v.status is not None and v.status.phase == "training"]
    return Standing(
        trials=len(views) + to_come,
        done=sum(view.state == "done" for view in views),
        failed=sum(view.state == "failed" for view in views),
        best=best,
        score=score,
        speed=sum(status.speed or 0.0 for status in training),
        seconds_left=_seconds_left(views, now, to_come),
    )


def _seconds_left(views: list[TrialView], now: float, to_come: int) -> float | None:
    running = [v for v in views if v.state == "running" and v.began is not None]
    waiting = to_come + sum(view.state == "waiting" for view in views)
    took = [
        view.ended - view.began
        for view in views
        if view.state == "done" and view.began is not None and view.ended is not None
    ]
    if not took:
        took = [now - v.began + left for v in running if v.began and (left := _own_guess(v))]
    if not took or not running:
        return None
    each = sum(took) / len(took)
    rests = [max(0.0, each - (now - view.began)) for view in running if view.began is not None]
    # Just after one ends fewer run than will in a moment: what has been the case counts, too.
    lasted = [
        (now if view.ended is None else view.ended) - view.began
        for view in views
        if view.began is not None
    ]
    span = now - min(view.began for view in views if view.began is not None)
    at_once = max(len(running), sum(lasted) / span) if span > 0 else len(running)
    return max(max(rests), (sum(rests) + waiting * each) / at_once)


def _own_guess(view: TrialView) -> float | None:
    return view.status.seconds_left if view.status is not None else None
