"""The likelihood in a row: of which models, of what, and of how many images."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kod_bench.diffusion import likelihood_evaluations, make_process
from kod_bench.networks import make_network
from kod_bench.sweeps.space import EvaluationOptions
from kod_bench.sweeps.store.stopping import STOP_FILE
from kod_bench.sweeps.trial.likelihood import IMAGES, held_out_likelihood
from kod_bench.sweeps.trial.rows import likelihood_columns
from kod_bench.training import StoppedError

CPU = torch.device("cpu")


class Silent(nn.Module):
    """Has learnt nothing; counts the images that it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.asked: set[int] = set()

    def forward(self, state: Tensor, step: Tensor) -> Tensor:
        self.asked.add(len(state))
        return self.weight * state.sin()


def subject(
    name: str, said: Any = "auto", folder: Path = Path("nowhere"), **parameters: Any
) -> Any:
    """A trial's subject, as far as it is looked at, with images held out that the process reads."""
    process: Any = make_process(name, shape=(1, 8, 8), steps=6, **parameters)
    images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    if getattr(process, "reading", "intensity") == "intensity":
        images = (256 * images).to(torch.uint8)
        drawn = images.float() / 127.5 - 1
        process.fit(lambda count: drawn[:count], torch.Generator().manual_seed(1))
    else:
        images = 2 * math.pi * images - math.pi
    trial = SimpleNamespace(seed=3, evaluation_options=EvaluationOptions(likelihood=said))
    sweep = SimpleNamespace(folder=folder, remote=None)
    dataset = SimpleNamespace(test=images)
    return SimpleNamespace(process=process, dataset=dataset, trial=trial, sweep=sweep)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("ddpm", {}),
        ("ddpm", {"reading": "circle"}),
        ("heat", {}),
        ("kuramoto", {}),
        ("wrapped", {}),
        ("torus-flow", {}),
    ],
)
def test_pixels_and_intensities_have_none_unless_asked(
    name: str, parameters: dict[str, Any]
) -> None:
    assert held_out_likelihood(subject(name, **parameters), Silent(), CPU) is None


def test_nobody_has_one_who_is_not_asked() -> None:
    assert held_out_likelihood(subject("wrapped", "none", reading="angle"), Silent(), CPU) is None


@pytest.mark.parametrize(
    ("name", "evaluations", "method"),
    [
        *((name, 11, "probability flow") for name in ("ddpm", "edm", "sgm", "flow-matching", "ve")),
        *((name, 12, "probability flow") for name in ("kuramoto", "wrapped", "torus-flow")),
        ("heat", 6, "evidence bound"),
    ],
)
def test_bits_of_images_in_parts_of_one_size(name: str, evaluations: int, method: str) -> None:
    network, of = Silent(), subject(name, 36)
    found = held_out_likelihood(of, network, CPU)
    assert found is not None
    assert network.asked == {IMAGES, 4}
    assert likelihood_evaluations(of.process) == (evaluations, method == "probability flow")
    columns = likelihood_columns(found)
    assert columns.pop("bits_per_dimension") == pytest.approx(found.values.mean().item())
    assert columns.pop("bits_per_dimension_error") == pytest.approx(found.values.std().item() / 6)
    assert columns == {
        "likelihood": None,
        "likelihood_error": None,
        "likelihood_images": 36,
        "likelihood_evaluations": evaluations,
        "likelihood_method": method,
    }
    first = held_out_likelihood(subject(name, 32), network, CPU)
    assert first is not None
    assert torch.equal(first.values, found.values[:32])


def test_of_no_more_images_than_are_held_out_and_of_pruned_models_few() -> None:
    every, few = (
        held_out_likelihood(subject("torus-flow", 1000), Silent(), CPU, pruned=pruned)
        for pruned in (False, True)
    )
    assert every is not None
    assert few is not None
    assert (len(every.values), len(few.values)) == (40, IMAGES)


def test_phases_spread_evenly_lose_what_the_gap_holds() -> None:
    """The uniform law on the circle has log2 of the margin, 0.9, less than even gray levels."""
    for name in ("wrapped", "torus-flow"):
        found = held_out_likelihood(subject(name, 32), Silent(), CPU)
        assert found is not None
        assert found.values.tolist() == pytest.approx([8 - math.log2(0.9)] * 32, abs=1e-4)


def test_a_stopped_sweep_waits_for_no_likelihood(tmp_path: Path) -> None:
    (tmp_path / STOP_FILE).touch()
    with pytest.raises(StoppedError, match="likelihood"):
        held_out_likelihood(subject("ddpm", 32, tmp_path), Silent(), CPU)


def test_a_model_that_learnt_nothing_finds_all_angles_alike() -> None:
    network = Silent()
    for name in ("wrapped", "torus-flow"):
        found = held_out_likelihood(subject(name, reading="angle"), network, CPU)
        assert found is not None
        assert found.mean == pytest.approx(math.log(2 * math.pi))
        assert found.unit == "nats per phase"
        assert found.evaluations == 12
    assert network.asked == {IMAGES}
    assert network.weight.grad is None


def test_a_network_answers_with_its_gradient_and_the_same_again() -> None:
    network = make_network(
        periodic=True, channels=1, image_size=8, steps=6, width=8, multipliers=(1, 2), blocks=1
    )
    with torch.no_grad():  # it starts with answers of zero
        for weights in network.parameters():
            weights.add_(0.05)
    of = subject("kuramoto", reading="angle", coupling="local", neighbourhood_radius=1)
    found, again = (held_out_likelihood(of, network, CPU) for _ in range(2))
    assert found is not None
    assert again is not None
    assert torch.equal(found.values, again.values)
    assert 0 < found.standard_error < 0.5
    assert torch.isfinite(found.values).all()
