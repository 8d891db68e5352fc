import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from kod_bench.diffusion import make_process
from kod_bench.evaluation import FeatureExtractor, Measured
from kod_bench.evaluation.features import Features
from kod_bench.sweeps import scoring
from kod_bench.sweeps.locks import exclusive_lock


class Slow(FeatureExtractor):
    """Pixels as features, slowly enough that two trials would meet."""

    name = "slow"
    calls = 0

    def __call__(self, images: Tensor) -> Features:
        type(self).calls += 1
        time.sleep(0.15)
        return images.flatten(1).double().numpy()


def trial_of(sweep: Path) -> Any:
    """As much of a subject as its reference depends on."""
    generator = torch.Generator().manual_seed(0)
    train, test = (
        torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=generator) for n in (20, 9)
    )
    return SimpleNamespace(
        sweep=SimpleNamespace(folder=sweep),
        trial=SimpleNamespace(
            evaluation_options=SimpleNamespace(samples=10, references=9),
            dataset_options=SimpleNamespace(on_sphere=False),
        ),
        dataset=SimpleNamespace(train=train, test=test, content_hash="dada"),
    )


def reference(sweep: Path) -> Any:
    return scoring._reference(cast(Any, trial_of(sweep)), Slow(), 10, torch.device("cpu"))


def test_trials_that_start_together_measure_the_reference_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slow, "calls", 0)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(reference, [tmp_path] * 4))
    assert Slow.calls == 2  # held-out images, and training images in place of samples
    assert all(each.real == found[0].real for each in found)


def test_who_waits_in_vain_for_the_reference_measures_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "REFERENCE_PATIENCE_SECONDS", 0.0)
    (tmp_path / "cache").mkdir()
    with exclusive_lock(tmp_path / "cache" / "lock", 0):
        assert reference(tmp_path).real_count == 10


@pytest.mark.parametrize("margin", [0.5, 0.9, 1.0])
def test_equal_images_have_equal_order_parameters_at_any_margin(margin: float) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=generator)
    measured = Measured.of(images, None)
    kuramoto = make_process("kuramoto", shape=(1, 8, 8), steps=4, phase_margin=margin)
    found = scoring._order_parameters(kuramoto, measured, measured)
    angles = 0.9 * math.pi * (images.double() / 127.5 - 1)
    expected = torch.exp(1j * angles).mean(dim=(1, 2, 3)).abs().mean().item()
    assert found["order_parameter"] == found["order_parameter_data"] == pytest.approx(expected)
    ddpm = make_process("ddpm", shape=(1, 8, 8), steps=4)
    assert scoring._order_parameters(ddpm, measured, measured)["order_parameter"] is None
