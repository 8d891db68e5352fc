"""Two workers train every process as one does, and hold one network, its constants included."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kod_bench.training import CheckpointStore, History, train
from kod_bench.training.history import read_history
from tests.training.every_process import PROCESS_NAMES, fitted, network_of
from tests.training.test_workers import OPTIONS, SEED, WORKERS, Joined

SHORT = replace(OPTIONS, iterations=6, checkpoint_every=6)


def pixels(name: str) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (40, *fitted(name).shape), dtype=torch.uint8, generator=rng)


def run(folder: Path, name: str, process: Any, change: Callable[[nn.Module], None]) -> Tensor:
    """Train; the weights of the network that was trained, then its constants."""
    folder.mkdir(exist_ok=True, parents=True)
    torch.set_num_threads(1)
    network = network_of(fitted(name))
    change(network)
    train(
        process,
        network,
        pixels(name),
        SHORT,
        seed=SEED,
        device=torch.device("cpu"),
        checkpoints=CheckpointStore(folder / "checkpoints"),
        history=lambda start: History(folder / "history.jsonl", start),
    )
    held = [*network.parameters(), *network.buffers()]
    return torch.cat([each.detach().flatten() for each in held])


def spoil(network: nn.Module) -> None:
    """Other weights and constants than the first worker's."""
    with torch.no_grad():
        for each in [*network.parameters(), *network.buffers()]:
            each.add_(0.1)


def _worker(rank: int, folder: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORKERS
    )
    for name in PROCESS_NAMES:
        held = run(
            folder / name / "workers",
            name,
            fitted(name),
            (lambda _: None) if rank == 0 else spoil,
        )
        torch.save(held, folder / name / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def losses(folder: Path) -> Tensor:
    return torch.tensor([record["loss"] for record in read_history(folder / "history.jsonl")])


@pytest.mark.slow
def test_two_workers_of_every_process_follow_one(tmp_path: Path) -> None:
    """A worker that begins with other numbers takes the first one's: weights and constants."""
    torch.multiprocessing.spawn(_worker, (tmp_path,), nprocs=WORKERS)
    for name in PROCESS_NAMES:
        folder = tmp_path / name
        joined = Joined(fitted(name), pixels(name))
        alone = run(folder / "alone", name, joined, lambda _: None)
        first, second = (torch.load(folder / f"{rank}.pt") for rank in range(WORKERS))
        assert torch.equal(first, second), name
        assert (first - alone).abs().max() < 1e-5, name
        one, two = losses(folder / "alone"), losses(folder / "workers")
        assert len(one) == len(two) == SHORT.iterations
        assert ((one - two).abs() / one).max() < 1e-5, name


def test_only_constants_are_buffers() -> None:
    """Which is why workers do not exchange them at every step: none changes in a training step."""
    for name in PROCESS_NAMES:
        network = network_of(fitted(name)).train()
        before = {key: each.clone() for key, each in network.named_buffers()}
        state = torch.randn(2, *fitted(name).state_shape)
        network(state, torch.ones(2, dtype=torch.int64)).sum().backward()
        assert all(torch.equal(each, before[key]) for key, each in network.named_buffers())
        assert not any(key in network.state_dict() for key in before)
