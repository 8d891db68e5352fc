"""How far several processes have drawn a trial's samples, by the shards that are there."""

import contextlib
import time
from dataclasses import astuple

from kod_bench.sampling import Way, shards_of
from kod_bench.sweeps.plan.progress import Status
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.search.early_stopping import given_up_at
from kod_bench.sweeps.store.samples import count_shards
from kod_bench.sweeps.trial.drawing import shard_size
from kod_bench.sweeps.trial.meter import sampling_status
from kod_bench.sweeps.trial.scoring import scored_ways, wanted


class DrawingProgress:
    """Looks at the names of a trial's shards, from a process that draws nothing.

    Shards of other weights, which are drawn again, count as long as they lie there.

    Args:
        sweep: where the trial belongs.
        trial: whose samples are drawn.
    """

    def __init__(self, sweep: Sweep, trial: Trial) -> None:
        self._sweep, self._trial = sweep, trial
        pruned = given_up_at(sweep, trial)
        self._count = wanted(sweep, trial, pruned)
        ways = scored_ways(trial, pruned)
        self._ways = {Way(*astuple(way)).name: way.network_evaluations for way in ways}
        self._size = shard_size(trial, self._count)
        self._present = {}
        with contextlib.suppress(OSError):
            self._present = count_shards(sweep, trial)
        self._began = time.monotonic()

    def status(self) -> Status | None:
        """Of the way that is being drawn; None once all are there, or if the store is away."""
        try:
            found = count_shards(self._sweep, self._trial)
        except OSError:
            return None
        whole = len(shards_of(self._count, self._size))
        # Counted in evaluations: an image of one way may take ten times as many as of another.
        shards = {way: found.get(way, 0) - self._present.get(way, 0) for way in self._ways}
        asked = sum(count * self._ways[way] for way, count in shards.items()) * self._size
        speed = asked / max(time.monotonic() - self._began, 1e-9)
        for way, evaluations in self._ways.items():
            if (there := found.get(way, 0)) < whole:
                done = min(self._count, there * self._size)
                return sampling_status(done, self._count, speed / evaluations)
        return None
