import pytest

from kod_bench.errors import UsageError
from kod_bench.sweeps.cluster.capacity import check_capacity
from kod_bench.sweeps.space import ResourceOptions


@pytest.mark.parametrize(
    ("workers", "cpus", "gpus", "nodes", "fits"),
    [
        (1, 2, 0, [{"CPU": 2.0}], True),
        (1, 2, 0, [{"CPU": 1.0}, {"CPU": 1.0}], False),  # the total would do
        (2, 1, 0, [{"CPU": 1.0}, {"CPU": 1.0}], True),
        (1, 1, 2, [{"CPU": 8.0, "GPU": 1.0}] * 8, False),
        (2, 1, 1, [{"CPU": 8.0}, {"CPU": 1.0, "GPU": 4.0}], False),  # GPUs without CPUs
        (4, 1, 0.25, [{"CPU": 4.0, "GPU": 1.0}], True),
        (10, 1, 0.1, [{"CPU": 16.0, "GPU": 1.0}], True),
        (3, 1, 0.6, [{"CPU": 8.0, "GPU": 2.0}], False),  # no two of them on one GPU
        (2, 1, 0.6, [{"CPU": 8.0, "GPU": 2.0}], True),
        (2, 1, 2, [{"CPU": 8.0, "GPU": 4.0}], True),
        (1, 1, 0, [{}], False),  # a head that holds no trials
        (1, 1, 0, [], False),
    ],
)
def test_workers_are_placed_node_by_node(
    workers: int, cpus: int, gpus: float, nodes: list[dict[str, float]], fits: bool
) -> None:
    resources = ResourceOptions(
        workers_per_trial=workers, cpus_per_worker=cpus, gpus_per_worker=gpus
    )
    if fits:
        check_capacity(resources, nodes, "the cluster")
    else:
        with pytest.raises(UsageError, match=r"asks for \d+ worker.*the cluster has room for \d"):
            check_capacity(resources, nodes, "the cluster")
