"""Whether a trial can ever run: on this machine, or on the nodes of a Ray cluster.

A worker lives on one node, so totals say nothing: eight nodes of one GPU hold no worker of two.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping

from kod_bench.errors import UsageError
from kod_bench.sweeps.cluster.demand import Demand, worker_bundle
from kod_bench.sweeps.space import ResourceOptions

_POLL_SECONDS = 2.0

#: For so many trials at most a cluster is asked to grow, as Tune does for trials of one worker.
_MOST_ASKED = 200


def check_capacity(
    resources: ResourceOptions, nodes: Iterable[Mapping[str, float]], place: str
) -> None:
    """Refuse trials whose workers cannot all be placed at once.

    Args:
        resources: of one trial.
        nodes: what each node has, as Ray names it: ``CPU``, ``GPU``.
        place: names them in the message.

    Raises:
        UsageError: with the numbers.
    """
    r, nodes = resources, list(nodes)
    room = sum(workers_on(node, r) for node in nodes)
    if room >= r.workers_per_trial:
        return
    asked = f"{r.workers_per_trial} worker(s) of {r.cpus_per_worker} CPU"
    if r.gpus_per_worker:
        asked += f" and {r.gpus_per_worker:g} GPU"
    raise UsageError(
        f"a trial of this sweep asks for {asked}; {place} has room for {room} "
        f"({_describe(nodes)}). Choose another --profile, or lower resources in the search space"
    )


def wait_for_capacity(
    resources: ResourceOptions, patience: float, say: Callable[[str], None]
) -> None:
    """Ask a cluster that grows for the nodes of one trial, and wait for them.

    Args:
        resources: of one trial.
        patience: seconds; 0 for a cluster that is as large as it gets.
        say: is told if there is something to wait for.

    Raises:
        UsageError: if they are not there by then, with the numbers.
    """

    def check() -> None:
        place = "the Ray cluster"
        if patience:
            place += f" after {patience:g} s of waiting (--wait-for-nodes)"
        check_capacity(resources, alive_nodes(), place)

    deadline = time.monotonic() + patience
    asked = False
    with Demand() as demand:  # afterwards, the trials' own counts
        while True:
            try:
                return check()
            except UsageError:
                if time.monotonic() >= deadline:
                    raise
            if not asked:
                asked = True
                say(f"waiting up to {patience:g} s for nodes with room for a trial")
            demand.ask([worker_bundle(resources)] * resources.workers_per_trial)
            time.sleep(_POLL_SECONDS)


class GroupRoom:
    """How many trials of several workers may run at once on a cluster that may grow or shrink.

    One that is begun where its workers do not fit would wait for room against trials that draw or
    score, and its time would run. So no more are begun than fit; the cluster is asked to grow for
    those that wait.

    Args:
        resources: of each.
        left: how many trials have not begun.
        demand: asks the cluster.
    """

    def __init__(self, resources: ResourceOptions, left: Callable[[], int], demand: Demand) -> None:
        self._resources = resources
        self._left = left
        self._demand = demand
        self._looked = -_POLL_SECONDS
        self._fit = 1

    def is_there(self, running: int) -> bool:
        """Whether one more may begin beside those that run; to be asked often."""
        now = time.monotonic()
        if now - self._looked >= _POLL_SECONDS:
            self._looked = now
            self._fit = groups_on(alive_nodes(), self._resources)
            groups = min(_MOST_ASKED, running + self._left())
            workers = groups * self._resources.workers_per_trial
            self._demand.ask([worker_bundle(self._resources)] * workers)
        return running < self._fit


def groups_on(nodes: Iterable[Mapping[str, float]], resources: ResourceOptions) -> int:
    """How many trials' workers fit at once, so that none waits half-placed; 1 at least."""
    room = sum(workers_on(node, resources) for node in nodes)
    return max(1, room // resources.workers_per_trial)


def alive_nodes() -> list[Mapping[str, float]]:
    """What each node of the Ray cluster has that is there now."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def workers_on(node: Mapping[str, float], r: ResourceOptions) -> int:
    """How many workers fit beside each other on a node, by what Ray says that it has.

    Fractions share one accelerator; they are not put together from several.
    """
    fits = [math.floor(node.get("CPU", 0.0) / r.cpus_per_worker)]
    if r.gpus_per_worker:
        gpus = node.get("GPU", 0.0)
        # Fractions such as 0.1 must not lose a worker to rounding.
        per_gpu = math.floor(1 / r.gpus_per_worker + 1e-9)
        fits.append(math.floor(gpus * per_gpu if per_gpu else gpus / r.gpus_per_worker + 1e-9))
    return min(fits)


def _describe(nodes: Iterable[Mapping[str, float]]) -> str:
    """The nodes by size, largest first."""
    sizes = sorted(((n.get("GPU", 0.0), n.get("CPU", 0.0)) for n in nodes), reverse=True)
    counted = {size: sizes.count(size) for size in dict.fromkeys(sizes)}
    return ", ".join(
        f"{count} node(s) of {cpu:g} CPU, {gpu:g} GPU" for (gpu, cpu), count in counted.items()
    )
