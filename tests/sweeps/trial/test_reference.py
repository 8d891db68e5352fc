import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from kod_bench.evaluation import FeatureExtractor
from kod_bench.evaluation.features import Features
from kod_bench.sweeps.store.locks import exclusive_lock
from kod_bench.sweeps.trial import reference as reference_module


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
    return reference_module.load_reference(
        cast(Any, trial_of(sweep)), Slow(), 10, torch.device("cpu")
    )


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
    monkeypatch.setattr(reference_module, "REFERENCE_PATIENCE_SECONDS", 0.0)
    (tmp_path / "cache").mkdir()
    with exclusive_lock(tmp_path / "cache" / "lock", 0):
        assert reference(tmp_path).real_count == 10
