"""The trials that are still to run: those in the plan, then those that a strategy chooses."""

from collections import deque
from collections.abc import Callable, Iterable

from kod_bench.results import Row
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.search.optuna_search import OptunaSearch


class TrialSupply:
    """What runs next.

    Args:
        pending: in the plan, without rows.
        search: chooses further trials; None if the plan is complete.
        show: is told of the trials that were chosen.

    Attributes:
        pending: to be taken from the left.
    """

    def __init__(
        self,
        pending: Iterable[Trial],
        search: OptunaSearch | None,
        show: Callable[[Iterable[Trial]], None],
    ) -> None:
        self.pending = deque(pending)
        self._search = search
        self._show = show

    @property
    def is_open(self) -> bool:
        """Whether more trials may be chosen than are pending."""
        return self._search is not None

    def has_more(self) -> bool:
        """Whether there is a trial to run; chooses one if none is pending."""
        if not self.pending and self._search is not None:
            chosen = self._search.next_trials()
            self._show(chosen)
            self.pending.extend(chosen)
        return bool(self.pending)

    def published(self) -> bool:
        """Whether all nodes can see what was chosen; tries to have it so."""
        if self._search is not None:
            try:
                self._search.publish()
            except OSError:  # the store is away; asked again soon
                return False
        return True

    def ended(self, trial: str, rows: list[Row] | None, reason: str | None) -> None:
        """A trial is done, has failed, or was stopped: the strategy learns of it."""
        if self._search is not None:
            self._search.ended(trial, rows, reason)
