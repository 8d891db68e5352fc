"""One trial as data: everything that its numbers depend on, and its name."""

import functools
import hashlib
import json
from dataclasses import dataclass, field, fields
from typing import Any

from kod_bench.data import DatasetOptions
from kod_bench.names import MAX_NAME_BYTES, cut_to_bytes
from kod_bench.sweeps.plan.reuse import Reused, scored_hash, trained_hash
from kod_bench.sweeps.space import EvaluationOptions, NetworkOptions, TrainingSection
from kod_bench.visible import is_visible

#: Of a trial's id that would be too long for a file's name: leaves room for what others add to it.
_CUT_BYTES = 160


@dataclass(frozen=True)
class Scoring:
    """One way of drawing samples from a trained model; it makes one row."""

    prior: str  # where sampling starts: one of the process's priors, or "forward"
    sampler: str
    network_evaluations: int


@dataclass(frozen=True)
class Trial:
    """One configuration with one seed: everything that its numbers depend on."""

    model: str
    process: str
    steps: int
    parameters: dict[str, Any]
    dataset: dict[str, Any]
    data_hash: str
    network: dict[str, Any]
    training: dict[str, Any]
    evaluation: dict[str, Any]
    sampling: list[dict[str, Any]]  # the scorings
    workers: int
    seed: int
    code: str  # version and hash of the code that planned it
    # `Plugin.identity` of each plug-in among process, data set and extractor, as it was then.
    plugins: list[dict[str, Any]] = field(default_factory=list)
    # `Reused.values` of the trial that this one begins with; no part of what it is.
    reuse: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        # A plan may come from anywhere, and these become the name of a folder.
        if not isinstance(self.model, str) or type(self.steps) is not int:
            raise ValueError(f"model {self.model!r}, steps {self.steps!r}: not a name and a number")
        if type(self.seed) is not int or type(self.workers) is not int:
            raise ValueError(f"seed {self.seed!r}, workers {self.workers!r}: not numbers")
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or (isinstance(value, str) and not is_visible(value)):
                raise ValueError(f"{name}: not a {kind.__name__} that can be shown")
        if not all(isinstance(each, dict) for each in self.plugins):
            raise ValueError("plugins: not mappings")
        if self.reuse is not None:
            if not isinstance(self.reuse, dict):
                raise ValueError("reuse: not a mapping")
            Reused.of(self.reuse)

    @functools.cached_property
    def config(self) -> str:
        """The resolved configuration as canonical JSON."""
        return json.dumps(self.values, sort_keys=True)

    @property
    def values(self) -> dict[str, Any]:
        """The fields by name. Shared with other trials: not to be modified.

        Without `plugins` if there is none: trials are what they were before there were any.
        """
        every = {name: getattr(self, name) for name in _TRIAL_FIELDS if name != "reuse"}
        return every if self.plugins else {k: v for k, v in every.items() if k != "plugins"}

    @property
    def record(self) -> dict[str, Any]:
        """For a plan: the values, and what is reused, if anything is."""
        return self.values if self.reuse is None else self.values | {"reuse": self.reuse}

    @functools.cached_property
    def reused(self) -> Reused | None:
        """What the trial begins with; None: with nothing."""
        return None if self.reuse is None else Reused.of(self.reuse)

    @property
    def model_of(self) -> Reused | None:
        """The trial whose model this one scores as it is; None: it trains one itself."""
        reused = self.reused
        return reused if reused is not None and reused.is_trained else None

    @functools.cached_property
    def trained_hash(self) -> str:
        """Identity of what is trained."""
        return trained_hash(self.values)

    @functools.cached_property
    def scored_hash(self) -> str:
        """Identity of how it is scored."""
        return scored_hash(self.values)

    @functools.cached_property
    def config_hash(self) -> str:
        """Identity: equal configurations have equal hashes, on every machine."""
        return hashlib.sha256(self.config.encode()).hexdigest()[:12]

    @functools.cached_property
    def id(self) -> str:
        """Readable and unique: names the trial's folder."""
        model = "".join(c if c.isalnum() or c in "-_." else "-" for c in self.model)
        rest = f"-T{self.steps}-seed{self.seed}-{self.config_hash[:8]}"
        name = model[:80] + rest
        if len(name.encode()) > MAX_NAME_BYTES:  # shorter ones stay as earlier versions made them
            name = cut_to_bytes(model, _CUT_BYTES - len(rest)) + rest
        return name

    @property
    def scorings(self) -> list[Scoring]:
        """The ways in which the trained model is scored."""
        return [Scoring(**scoring) for scoring in self.sampling]

    @property
    def dataset_options(self) -> DatasetOptions:
        """The data set's options, validated again: the file may come from anywhere."""
        return DatasetOptions.model_validate_json(json.dumps(self.dataset), strict=True)

    @property
    def network_options(self) -> NetworkOptions:
        """The network's options."""
        return NetworkOptions.model_validate_json(json.dumps(self.network), strict=True)

    @property
    def training_section(self) -> TrainingSection:
        """The optimiser's options."""
        return TrainingSection.model_validate_json(json.dumps(self.training), strict=True)

    @property
    def evaluation_options(self) -> EvaluationOptions:
        """The scoring options."""
        return EvaluationOptions.model_validate_json(json.dumps(self.evaluation), strict=True)


#: What the sections of a plan, which may come from anywhere, have to be.
_KINDS: dict[str, type] = {
    "model": str,
    "process": str,
    "parameters": dict,
    "dataset": dict,
    "data_hash": str,
    "network": dict,
    "training": dict,
    "evaluation": dict,
    "sampling": list,
    "code": str,
    "plugins": list,
}
_TRIAL_FIELDS = tuple(each.name for each in fields(Trial))
