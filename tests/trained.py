"""A small sweep whose trials are trained in this process, for tests of what is done with models."""

import shutil
from pathlib import Path

import pytest
import torch.nn.functional as F
from torch import Tensor

from kod_bench.evaluation import FeatureExtractor
from kod_bench.evaluation.features import Features
from kod_bench.storage import Location
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.store.open import open_sweep
from kod_bench.sweeps.trial import scoring as scoring_module
from kod_bench.sweeps.trial.run import run_trial, train_and_score
from tests.planned import plan_sweep

SPACE = """
name: trained
dataset: {name: fingerprints, image_size: 16, scale: 0.25, synthetic: {fingers: 6, impressions: 2}}
network: {width: 8, multipliers: [1], blocks: 1}
training: {iterations: 4, batch_size: 8, log_every: 2, checkpoint_every: 2, warmup: 1}
evaluation: {samples: 20, references: 16, batch_size: 8}
models:
  kuramoto:
    {process: kuramoto, coupling: local, pool_size: 16, calibration_chains: 16, steps: 4,
     priors: [matched, forward], network_evaluations: [4, 2]}
  ddpm: {process: ddpm, steps: 4}
  edm: {process: edm, steps: 4}
  heat: {process: heat, steps: 4, prior_images: 32}
seeds: [0, 1, 2]
profiles: {laptop: {}}
"""

#: Trials of these seeds are trained: one of the others has not finished.
TRAINED = {"kuramoto": (0,), "ddpm": (0, 1, 2), "edm": (0,), "heat": (0,)}


class Blocks(FeatureExtractor):
    """Means of blocks of pixels: enough to tell samples apart, and quick."""

    name = "blocks"

    def __call__(self, images: Tensor) -> Features:
        blocks = F.avg_pool2d(images.double(), 4).flatten(1)
        return blocks.numpy()


def plan(folder: Path, results: Location) -> Sweep:
    """The sweep, none of whose trials has been run."""
    return plan_sweep(SPACE, folder, results)


def train_all(sweep: Sweep, models: dict[str, tuple[int, ...]]) -> None:
    """Run trials of these seeds."""
    for trial in sweep.trials:
        if trial.seed in models.get(trial.model, ()):
            run_trial(sweep, trial, lambda _: None, train_and_score)


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, _own_key: None) -> Path:
    """The folder of the sweep, not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KOD_BENCH_CACHE", str(cache_dir))
        patch.setattr(scoring_module, "make_extractor", lambda *_: Blocks())
        folder = tmp_path_factory.mktemp("trained")
        sweep = plan(folder, folder / "results")
        train_all(sweep, TRAINED)
    return sweep.folder


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Sweep:
    """A copy of the sweep."""
    folder = tmp_path / "results" / "trained" / trained_once.name
    shutil.copytree(trained_once, folder)
    return open_sweep(folder)


def trial_of(sweep: Sweep, model: str, seed: int = 0) -> Trial:
    """One of its trials."""
    return next(each for each in sweep.trials if (each.model, each.seed) == (model, seed))


def folder_of(sweep: Sweep, model: str, seed: int = 0) -> Path:
    """Where it lies."""
    return sweep.trial_folder(trial_of(sweep, model, seed))
