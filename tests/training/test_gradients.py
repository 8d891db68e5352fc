"""Parts of a batch, one after the other, are the whole batch."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kod_bench.diffusion import TrainingBatch
from kod_bench.networks import make_network
from kod_bench.training.gradients import accumulate_gradients
from kod_bench.training.history import read_history
from tests.training.test_training import OPTIONS, run, weights


def some_network() -> nn.Module:
    torch.manual_seed(0)
    network = make_network(
        periodic=False, channels=1, image_size=8, steps=10, width=8, multipliers=(1,), dropout=0.0
    )
    for parameter in network.parameters():  # some begin at zero, and would hide a wrong gradient
        nn.init.normal_(parameter, std=0.1)
    return network


def some_batch(weight: Tensor) -> TrainingBatch:
    generator = torch.Generator().manual_seed(1)
    state, target = torch.randn(2, 8, 1, 8, 8, generator=generator)
    return TrainingBatch(state, torch.arange(1, 9), target, weight)


def gradients(weight: Tensor, micro_batch_size: int) -> tuple[Tensor, Tensor]:
    network = some_network()
    loss = accumulate_gradients(network, some_batch(weight), micro_batch_size)
    return loss, torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize("micro_batch_size", [1, 3, 4, 7, 100])
@pytest.mark.parametrize(
    "weight",
    [torch.ones(()), torch.full((1,), 2.0), torch.arange(1.0, 9.0).view(8, 1, 1, 1)],
    ids=["scalar", "one", "per-sample"],
)
def test_parts_have_the_gradient_of_the_whole(weight: Tensor, micro_batch_size: int) -> None:
    loss, whole = gradients(weight, 8)
    in_parts, summed = gradients(weight, micro_batch_size)
    assert in_parts.item() == pytest.approx(loss.item(), rel=1e-5)
    assert (summed - whole).abs().max() <= 1e-5 * whole.abs().max()


def test_a_part_is_all_that_the_network_sees_at_once() -> None:
    network, sizes = some_network(), []

    def predict(state: Tensor, step: Tensor) -> Tensor:
        sizes.append(len(state))
        return network(state, step)  # type: ignore[no-any-return]

    accumulate_gradients(predict, some_batch(torch.ones(())), 3)
    assert sizes == [3, 3, 2]


def test_training_in_parts_follows_training_in_one(tmp_path: Path) -> None:
    options = replace(OPTIONS, log_every=1)
    whole = run(tmp_path / "whole", options)
    parts = run(tmp_path / "parts", replace(options, micro_batch_size=3))
    assert (whole.micro_batch_size, parts.micro_batch_size) == (8, 3)
    one, other = (
        [record["loss"] for record in read_history(tmp_path / name / "history.jsonl")]
        for name in ("whole", "parts")
    )
    assert len(one) == 30
    assert other == pytest.approx(one, rel=1e-4)
    assert torch.allclose(weights(whole), weights(parts), atol=1e-4)


def test_a_finished_run_remembers_its_parts(tmp_path: Path) -> None:
    run(tmp_path, replace(OPTIONS, micro_batch_size=2))
    assert run(tmp_path).micro_batch_size == 2
