"""A plan that grows: trials chosen by results are added to ``trials.jsonl`` before they run.

Only the driver of the sweep adds, and it holds the sweep's lock. The file is replaced as a whole:
whoever reads it sees it before or after; on an object store likewise.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from kod_bench.atomic import atomic_write
from kod_bench.data import DatasetOptions, load_dataset
from kod_bench.data.settling import settled_before
from kod_bench.inside import MOST_PLAN, read_bytes
from kod_bench.sweeps.plan.make import canonical_json, make_trial, plain_options
from kod_bench.sweeps.plan.sweep import TRIALS_FILE, Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.plan.trials_file import Drawn, decode_drawn, encode_more
from kod_bench.sweeps.space import ModelVariant
from kod_bench.sweeps.store.open import open_sweep
from kod_bench.sweeps.store.ownership import line_signer


class GrowingPlan:
    """The trials of a sweep whose strategy chooses them one after another.

    Args:
        sweep: of this process, which holds its lock.

    Attributes:
        trials: by id, in the order of the plan.
        drawn: where drawn values belong, by id.
    """

    def __init__(self, sweep: Sweep) -> None:
        if sweep.growth is None:
            raise ValueError(f"{sweep.shown}: its plan is complete")
        self._sweep = sweep
        self._growth = sweep.growth
        self._path = sweep.folder / TRIALS_FILE
        self._content = read_bytes(self._path, MOST_PLAN)
        self._sign = line_signer(sweep)
        self._unpublished = False
        self._hashes = dict(sweep.growth.hashes)
        self.trials = {trial.id: trial for trial in sweep.trials}
        self.drawn: dict[str, Drawn] = decode_drawn(self._content)
        for trial in sweep.trials:
            self._hashes.setdefault(canonical_json(trial.dataset), trial.data_hash)

    def make(self, variant: ModelVariant, seeds: Sequence[int]) -> list[Trial]:
        """A variant's trials, one of each seed; nothing is written."""
        variant = variant.model_copy(update={"dataset": self._settled(variant.dataset)})
        return [
            make_trial(
                variant,
                seed,
                data_hash=self._data_hash(variant.dataset),
                evaluation=self._growth.evaluation,
                workers=self._sweep.resources.workers_per_trial,
                code=self._growth.code,
            )
            for seed in seeds
        ]

    def add(self, trials: Sequence[Trial], drawn: Drawn) -> None:
        """Add the trials of one point.

        Raises:
            ValueError: if one of them is in the plan.
            OSError: if it cannot be written here. What cannot be put on the store is put there by
                `publish`.
        """
        for trial in trials:
            if trial.id in self.trials:
                raise ValueError(f"trial {trial.id} is in the plan already")
        belongs = {trial.id: drawn for trial in trials}
        values = [(t.id, t.values) for t in trials]
        lines = encode_more(self._content, values, belongs, self._sign)
        with atomic_write(self._path) as file:
            file.write(self._content + lines)
        self._content += lines
        self._unpublished = True
        self.trials |= {trial.id: trial for trial in trials}
        self.drawn |= belongs

    def publish(self) -> None:
        """Put what was added on the store, for the nodes that will run it.

        Raises:
            OSError: if the store cannot be reached, or refuses.
        """
        if self._unpublished and self._sweep.remote is not None:
            self._sweep.remote.write(TRIALS_FILE, self._content)
        self._unpublished = False

    def _settled(self, dataset: DatasetOptions) -> DatasetOptions:
        """Without `auto`, as frozen in the plan: another default must not change it half way."""
        found = settled_before(dataset, [json.loads(key) for key in self._hashes])
        return found or load_dataset(dataset, self._sweep.data_dir).options

    def _data_hash(self, dataset: DatasetOptions) -> str:
        """As frozen in the plan; of a data set that no trial has had yet, as its images are now."""
        key = canonical_json(plain_options(dataset))
        if key not in self._hashes:
            self._hashes[key] = load_dataset(dataset, self._sweep.data_dir).content_hash
        return self._hashes[key]


def refreshed(sweep: Sweep) -> Sweep:
    """The sweep as it is now that this process holds its lock: another may have added to it.

    What an earlier driver on this node has chosen, but not put on the store, never began.

    Raises:
        OSError: if the store cannot be reached.
    """
    if sweep.growth is not None and sweep.remote is not None:
        sweep.remote.download([TRIALS_FILE], sweep.folder)
    return grown(sweep)


def grown(sweep: Sweep) -> Sweep:
    """The sweep with what was added since it was opened."""
    if sweep.growth is None:
        return sweep
    # Its images are where its user has said, and it imports what they let it: no plan says either.
    again = open_sweep(sweep.remote or sweep.folder)
    return replace(
        again, data_dir=sweep.data_dir, permissions=sweep.permissions, donors=sweep.donors
    )
