"""Hands a sweep's trials to Tune one after another, so that later ones can follow from results."""

import time
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from kod_bench.errors import one_line
from kod_bench.sweeps.search.supply import TrialSupply

#: How long a disk may refuse the plan before the sweep ends with the trials that it has.
DISK_PATIENCE_SECONDS = 60.0


class TrialQueue(Searcher):
    """A Tune searcher that chooses nothing itself.

    What becomes of a trial is told to the strategy by the watcher, who has its rows.

    Args:
        supply: of the trials; that it is used up ends the sweep.
        may_begin: asked before each, with the number of those that run: False holds it back for
            now.
        say: told, once, that the plan cannot be written, which a full disk may be the reason of.

    Attributes:
        gave_up: why no further trial could be chosen, if that ended the sweep.
    """

    def __init__(
        self, supply: TrialSupply, may_begin: Callable[[int], bool], say: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._supply = supply
        self._may_begin = may_begin
        self._say = say
        self._refused: float | None = None  # since when
        self._running = 0
        self.gave_up: OSError | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it for a restore that never happens here

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration; None for not now; a word of Tune's for the end."""
        if not self._may_begin(self._running):
            return None
        try:
            if not self._supply.has_more():
                return Searcher.FINISHED
        except OSError as error:  # running trials are not to suffer for it
            if self._refused is None:
                self._refused = time.monotonic()
                self._say(f"no further trial can be chosen for now: {one_line(error)}")
            if time.monotonic() - self._refused <= DISK_PATIENCE_SECONDS:
                return None
            self.gave_up = error
            return Searcher.FINISHED
        self._refused = None
        # Once more: what was chosen now must be where the node that runs it can see it.
        if not self._may_begin(self._running):
            return None
        self._running += 1
        return {"id": self._supply.pending.popleft().id}

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Nothing of Tune's is searched."""
        return True

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """There may be room for another; what became of it, the watcher tells."""
        self._running -= 1

    def save(self, checkpoint_path: str) -> None:
        """Nothing to be kept: plan and rows say it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: resume reads no state of Tune's."""
