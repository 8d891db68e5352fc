"""Whether a trial can ever run: on this machine, or on the nodes of a Ray cluster.

A worker lives on one node, so totals say nothing: eight nodes of one GPU hold no worker of two.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping

from kod_bench.errors import UsageError
from kod_bench.sweeps.space import ResourceOptions

_POLL_SECONDS = 2.0


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
    from ray.autoscaler.sdk import request_resources

    def check() -> None:
        place = "the Ray cluster"
        if patience:
            place += f" after {patience:g} s of waiting (--wait-for-nodes)"
        check_capacity(resources, alive_nodes(), place)

    deadline = time.monotonic() + patience
    asked = False
    try:
        while True:
            try:
                return check()
            except UsageError:
                if time.monotonic() >= deadline:
                    raise
            if not asked:
                asked = True
                say(f"waiting up to {patience:g} s for nodes with room for a trial")
                worker = {"CPU": resources.cpus_per_worker}
                if resources.gpus_per_worker:
                    # Whole ones are asked for; the trials' own shares are placed by Ray.
                    worker["GPU"] = max(1, int(resources.gpus_per_worker))
                request_resources(bundles=[worker] * resources.workers_per_trial)
            time.sleep(_POLL_SECONDS)
    finally:
        if asked:
            request_resources(bundles=[])  # from here on, the trials' own demand counts


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
