"""What samples are compared with: measured once for all trials of a sweep."""

import torch

from kod_bench.evaluation import FeatureExtractor, Reference
from kod_bench.sweeps.store.locks import LockedError, exclusive_lock
from kod_bench.sweeps.trial.subject import Subject

#: References are chosen, and the noise floor computed, equally in all trials of all sweeps.
REFERENCE_SEED = 0

#: One trial measures the reference, the others wait for it; so long, before they do it themselves.
REFERENCE_PATIENCE_SECONDS = 1800.0


def load_reference(
    subject: Subject, extractor: FeatureExtractor, count: int, device: torch.device
) -> Reference:
    """The held-out images' statistics, measured by one trial of a sweep and shared by the others.

    Args:
        subject: the trial.
        extractor: of the features.
        count: of the samples that will be compared.
        device: where features are computed.
    """
    options, dataset = subject.trial.evaluation_options, subject.dataset
    folder = subject.sweep.folder / "cache"
    folder.mkdir(exist_ok=True)

    def load() -> Reference:
        return Reference.load(
            train=dataset.train,
            test=dataset.test,
            data_hash=dataset.content_hash,
            sample_count=count,
            reference_count=options.references,
            seed=REFERENCE_SEED,
            extractor=extractor,
            folder=folder,
            device=device,
            on_sphere=subject.trial.dataset_options.on_sphere,
        )

    try:
        with exclusive_lock(folder / "lock", REFERENCE_PATIENCE_SECONDS):
            return load()
    except LockedError:
        return load()
