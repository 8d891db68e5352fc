"""How far a way of drawing samples is: what this process has drawn, and what others have."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from kod_bench.inside import list_folder
from kod_bench.sampling import ShardFolder
from kod_bench.storage import StoredObject
from kod_bench.sweeps.plan.progress import Report, Status
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Scoring, Trial
from kod_bench.sweeps.store.samples import list_shards
from kod_bench.sweeps.store.stopping import stop_check
from kod_bench.training import StoppedError

#: The speed is that of so many seconds: those who help come and go.
_WINDOW_SECONDS = 30.0
#: How often a store is asked what others have put there.
_STORE_SECONDS = 5.0


class Meter:
    """Says how far a way is, and looks whether to go on, about once a second.

    Args:
        sweep: of the trial.
        trial: whose samples these are.
        scoring: the way.
        report: receives the progress.
        count: images of the way.
        size: images of a shard.
        gives_way: see `Part`.
    """

    def __init__(
        self,
        sweep: Sweep,
        trial: Trial,
        scoring: Scoring,
        report: Report,
        count: int,
        size: int,
        gives_way: Callable[[], bool] = lambda: False,
    ) -> None:
        self.calls = 0
        self.shards = 0  # drawn here
        self._sweep, self._trial = sweep, trial
        self._evaluations = scoring.network_evaluations
        self._report = report
        self._count, self._size = count, size
        self._gives_way = gives_way
        self._should_stop = stop_check(sweep)
        self._folder: ShardFolder | None = None
        self._present = 0  # those that were there before
        self._missing: dict[str, int] = {}  # that others may draw, by name
        self._others: set[int] = set()  # that others have drawn meanwhile
        self._began = self._reported = time.monotonic()
        self._listed: Mapping[str, StoredObject] = {}
        self._asked = -_STORE_SECONDS
        self._seen: deque[tuple[float, float]] = deque([(self._began, 0.0)])  # time, images

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def begin(self, folder: ShardFolder, missing: Iterable[int]) -> None:
        """These shards are not there yet, the others are."""
        self._folder = folder
        self._missing = {folder.file(index).name: index for index in missing}
        self._present = -(-self._count // self._size) - len(self._missing)
        self._report(Status("sampling", min(self._count, self._present * self._size), self._count))

    def drawn(self, index: int) -> None:
        """A shard is drawn and stored by this process."""
        self.shards += 1
        if self._folder is not None:
            self._missing.pop(self._folder.file(index).name, None)

    def is_elsewhere(self, index: int, known: Mapping[str, StoredObject]) -> bool:
        """Whether another node has put a shard on the store, which is asked now and then.

        Args:
            index: of the shard.
            known: what was listed when it was missing.
        """
        if self._folder is None or self._sweep.remote is None:
            return False
        if time.monotonic() - self._asked >= _STORE_SECONDS:
            with contextlib.suppress(OSError):  # it is drawn twice then
                self._listed = list_shards(self._sweep, self._trial, self._folder.path.name)
            self._asked = time.monotonic()
        name = self._folder.file(index).name
        if name not in self._listed or self._listed[name] == known.get(name):
            return False
        if self._missing.pop(name, None) is not None:
            self._others.add(index)
        return True

    def call(self) -> None:
        """The network has been asked once."""
        self.calls += 1
        self._look()

    def wait(self, seconds: float) -> None:
        """There is nothing to do here for a moment.

        Raises:
            StoppedError: as from `call`.
        """
        time.sleep(seconds)
        self._look()

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._reported < 1.0:
            return
        if self._should_stop():
            raise StoppedError("stopped while sampling")
        if self._gives_way():
            raise StoppedError("gave its room to those who wait for it")
        self._reported = now
        self._count_others()
        drawn = (self.calls / self._evaluations + len(self._others)) * self._size
        while len(self._seen) > 1 and self._seen[0][0] < now - _WINDOW_SECONDS:
            self._seen.popleft()
        since, before = self._seen[0]
        self._seen.append((now, drawn))
        done = min(float(self._count), self._present * self._size + drawn)
        self._report(sampling_status(int(done), self._count, (drawn - before) / (now - since)))

    def _count_others(self) -> None:
        if self._folder is None:
            return
        for name in list_folder(self._folder.path).keys() & self._missing.keys():
            index = self._missing[name]
            if self._folder.has(index):  # what is of other weights is not what was drawn now
                self._others.add(index)
                del self._missing[name]


def sampling_status(done: int, count: int, speed: float) -> Status:
    """How far a way is.

    Args:
        done: images.
        count: images of the way.
        speed: images per second, of all who draw.
    """
    left = (count - done) / speed if speed > 0 else None
    return Status("sampling", done, count, None, speed or None, left)
