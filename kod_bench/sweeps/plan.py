"""The plan: a sweep's trials, frozen before the first one starts.

A sweep's folder::

    sweep.yaml              the search space, resolved, and where it came from; written last
    trials.jsonl            the trials, see `trials_file`; sweep.yaml has the hash of its beginning
    trials/<trial>/         checkpoints, history, log, sample grid; row.parquet last
    cache/                  reference features shared by the trials
    report/                 tables and pictures over the rows

Where a strategy chooses by results, the trials that it chooses are added to ``trials.jsonl`` before
they run (`kod_bench.sweeps.growth`); what is in ``sweep.yaml`` stays.
"""

import functools
import hashlib
import json
import secrets
import shlex
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

import kod_bench
from kod_bench.atomic import atomic_write
from kod_bench.data import DatasetOptions
from kod_bench.data.cache import default_cache_dir
from kod_bench.errors import UsageError, one_line
from kod_bench.results.provenance import Provenance, code_hash
from kod_bench.storage import Location, ObjectFolder, parse_location
from kod_bench.sweeps.locks import is_locked
from kod_bench.sweeps.needed_plugins import needed_plugins
from kod_bench.sweeps.space import (
    PRUNERS,
    EvaluationOptions,
    ModelVariant,
    NetworkOptions,
    Pruner,
    ResourceOptions,
    SearchSpace,
    TrainingSection,
)
from kod_bench.sweeps.trials_file import (
    DamagedError,
    Drawn,
    decode_ids,
    decode_trial,
    decode_trials,
    encode_trials,
)
from kod_bench.sweeps.yaml_file import load_yaml

#: 1 had all trials in full in sweep.yaml.
FORMATS = (1, 2)
TRIALS_FILE = "trials.jsonl"
SWEEP_FILE = "sweep.yaml"
LOCK_FILE = "lock"


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

    def __post_init__(self) -> None:
        # A plan may come from anywhere, and these become the name of a folder.
        if not isinstance(self.model, str) or type(self.steps) is not int:
            raise ValueError(f"model {self.model!r}, steps {self.steps!r}: not a name and a number")
        if type(self.seed) is not int or type(self.workers) is not int:
            raise ValueError(f"seed {self.seed!r}, workers {self.workers!r}: not numbers")
        if not isinstance(self.plugins, list) or not all(isinstance(p, dict) for p in self.plugins):
            raise ValueError("plugins: not a list of mappings")

    @functools.cached_property
    def config(self) -> str:
        """The resolved configuration as canonical JSON."""
        return json.dumps(self.values, sort_keys=True)

    @property
    def values(self) -> dict[str, Any]:
        """The fields by name. Shared with other trials: not to be modified.

        Without `plugins` if there is none: trials are what they were before there were any.
        """
        every = {name: getattr(self, name) for name in _TRIAL_FIELDS}
        return every if self.plugins else {k: v for k, v in every.items() if k != "plugins"}

    @functools.cached_property
    def config_hash(self) -> str:
        """Identity: equal configurations have equal hashes, on every machine."""
        return hashlib.sha256(self.config.encode()).hexdigest()[:12]

    @functools.cached_property
    def id(self) -> str:
        """Readable and unique: names the trial's folder."""
        model = "".join(c if c.isalnum() or c in "-_." else "-" for c in self.model)
        return f"{model[:80]}-T{self.steps}-seed{self.seed}-{self.config_hash[:8]}"

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


_TRIAL_FIELDS = tuple(each.name for each in fields(Trial))


@dataclass(frozen=True)
class Growth:
    """What is needed to add trials to a plan, frozen with it.

    Attributes:
        study: name of the study, as programs that read it show it.
        code: version and hash of the code that made the plan.
        evaluation: the scoring options of every trial.
        hashes: of the images, by the data set's options as canonical JSON.
        total: how many trials there will be in the end.
        source: the search space's file.
        profile: of the space.
        resolved: what file, profile and changes say together.
    """

    study: str
    code: str
    evaluation: dict[str, Any]
    hashes: dict[str, str]
    total: int
    source: str
    profile: str
    resolved: dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """A sweep on disk, or on an object store with a working copy on disk.

    Attributes:
        folder: of the sweep; of this node's working copy, if the sweep is on an object store.
        space: its search space's name.
        profile: of the space.
        data_dir: where its images are; None for built-in ones.
        resources: what each trial occupies.
        trials: the plan.
        remote: where the sweep really is, if not in `folder`; see `kod_bench.sweeps.mirror`.
        growth: how trials are added; None for a plan that is complete.
        early_stopping: how trials are pruned; None: they are not.
        permissions: options of `resume` by which the user who runs it here lets it import what is
            not this package's; nothing that the plan says.
    """

    folder: Path
    space: str
    profile: str
    data_dir: Location | None
    resources: ResourceOptions
    trials: tuple[Trial, ...]
    remote: ObjectFolder | None = None
    growth: Growth | None = None
    early_stopping: Pruner | None = None
    permissions: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """How many trials there will be, those that are yet to be chosen included."""
        return len(self.trials) if self.growth is None else max(self.growth.total, len(self.trials))

    @property
    def location(self) -> Location:
        """Where the sweep is, for a person or for another machine."""
        return self.folder.resolve() if self.remote is None else self.remote

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name  # the folder may be given as "."

    @property
    def shown(self) -> str:
        """Where the sweep is, as its user would name it."""
        return str(self.folder if self.remote is None else self.remote)

    @property
    def resume_command(self) -> str:
        """What a user types to go on with the sweep."""
        return f"kod-bench resume {shlex.join((self.shown, *self.permissions))}"

    @property
    def code(self) -> str:
        """Version and source hash of the code that made the plan."""
        return self.trials[0].code if self.growth is None else self.growth.code

    @property
    def trials_folder(self) -> Path:
        """Where the trials' folders are."""
        return self.folder / "trials"

    def trial_folder(self, trial: Trial) -> Path:
        """Where a trial writes."""
        return self.trials_folder / trial.id


def current_code() -> str:
    """Version and source hash of the code that runs now."""
    return f"{kod_bench.__version__}+{code_hash()}"


def make_trials(
    space: SearchSpace, data_hash: str | Mapping[DatasetOptions, str]
) -> tuple[Trial, ...]:
    """Expand a search space into trials, one seed of every model before the next seed.

    An interrupted sweep then has complete comparisons at fewer seeds rather than fewer models.

    Args:
        space: resolved.
        data_hash: of the images; of each data set, where the space has several.
    """
    options = space.options
    code = current_code()
    plain = functools.cache(plain_options)  # large spaces repeat their sections
    trials = [
        make_trial(
            variant,
            seed,
            data_hash=data_hash if isinstance(data_hash, str) else data_hash[variant.dataset],
            evaluation=plain(options.evaluation),
            workers=options.resources.workers_per_trial,
            code=code,
            plain=plain,
        )
        for seed in options.seeds
        for variant in space.variants
    ]
    return tuple({trial.config_hash: trial for trial in trials}.values())


def make_trial(
    variant: ModelVariant,
    seed: int,
    *,
    data_hash: str,
    evaluation: dict[str, Any],
    workers: int,
    code: str,
    plain: Callable[[BaseModel], dict[str, Any]] | None = None,
) -> Trial:
    """One variant with one seed.

    Args:
        variant: of a model.
        seed: of the training.
        data_hash: of the variant's images.
        evaluation: the scoring options.
        workers: of the trial.
        code: version and hash of the code that plans it.
        plain: makes plain values of options.
    """
    plain = plain or plain_options
    return Trial(
        model=variant.label,
        process=variant.process,
        steps=variant.steps,
        parameters=variant.parameters,
        dataset=plain(variant.dataset),
        data_hash=data_hash,
        network=plain(variant.network),
        training=plain(variant.training),
        evaluation=evaluation,
        sampling=[
            asdict(Scoring(prior, sampler, evaluations))
            for prior in variant.priors
            for sampler in variant.samplers
            for evaluations in variant.network_evaluations
        ],
        workers=workers,
        seed=seed,
        code=code,
        plugins=[
            plugin.identity()
            for plugin in needed_plugins(
                variant.process, variant.dataset.name, str(evaluation["features"])
            )
        ],
    )


def plain_options(options: BaseModel) -> dict[str, Any]:
    """A section as plain values."""
    return options.model_dump(mode="json")


def canonical_json(values: Mapping[str, Any]) -> str:
    """Equal for equal values."""
    return json.dumps(values, sort_keys=True)


def check_writable(results_dir: Location) -> None:
    """Refuse a results folder that cannot be written, before minutes are spent on anything else.

    Raises:
        UsageError: naming the folder and the reason.
    """
    if isinstance(results_dir, ObjectFolder):
        probe = f".kod-bench-{secrets.token_hex(8)}"
        try:
            results_dir.write(probe, b"can this be written?\n")
            results_dir.delete(probe)
        except OSError as error:
            raise _unwritable(results_dir, error) from error
        return
    existing = results_dir.absolute()
    while not existing.exists():
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise _unwritable(existing, error) from error


def _unwritable(folder: Location, error: OSError) -> UsageError:
    reason = error.strerror or one_line(error)
    return UsageError(
        f"{folder}: results cannot be written here ({reason}); "
        "choose another folder with --results-dir"
    )


def create_sweep(
    space: SearchSpace,
    trials: tuple[Trial, ...],
    *,
    results_dir: Location,
    data_dir: Location | None,
    provenance: Provenance,
    hashes: Mapping[DatasetOptions, str] | None = None,
) -> Sweep:
    """Make the sweep's folder and write its plan.

    Args:
        space: resolved.
        trials: of all its variants; where a strategy chooses by results, those that were drawn
            only stand in for its choices, and are not written.
        results_dir: where sweeps are kept.
        data_dir: where the images are.
        provenance: of this process.
        hashes: of the images of each data set that was opened.

    Raises:
        UsageError: if the folder cannot be written.
    """
    now = datetime.now(UTC)
    parent = results_dir / space.options.name
    total, chosen_later = len(trials), space.options.search.strategy == "optuna"
    drawn = {
        (variant.label, variant.steps): Drawn(variant.group, variant.drawn)
        for variant in space.variants
        if variant.drawn
    }
    alike = [trial.values for trial in trials]
    if chosen_later:
        trials = tuple(trial for trial in trials if (trial.model, trial.steps) not in drawn)
    encoded = encode_trials(
        [(trial.id, trial.values) for trial in trials],
        {t.id: drawn[t.model, t.steps] for t in trials if (t.model, t.steps) in drawn},
        alike,
    )
    document = {
        "format": FORMATS[-1],
        "space": space.options.name,
        "source": space.source,
        "profile": space.profile,
        "created_at": now.isoformat(timespec="seconds"),
        "data_dir": None if data_dir is None else str(_absolute(data_dir)),
        "resources": space.options.resources.model_dump(mode="json"),
        "provenance": asdict(provenance),
        "set": space.changes,
        "resolved": space.document,
        "trials": {
            "file": TRIALS_FILE,
            "count": len(trials),
            "bytes": len(encoded),
            "sha256": hashlib.sha256(encoded).hexdigest(),
        },
    }
    if (pruner := space.options.search.pruner) is not None:
        name = {"rule": space.options.search.early_stopping}
        document["early_stopping"] = name | plain_options(pruner)
    stamp = now.strftime("%Y%m%d-%H%M%S")

    def text(name: str) -> bytes:
        if chosen_later:
            document["search"] = {
                "study": name,
                "code": current_code(),
                "evaluation": plain_options(space.options.evaluation),
                "hashes": {canonical_json(plain_options(k)): v for k, v in (hashes or {}).items()},
                "total": total,
            }
        return yaml.safe_dump(_plain(document), sort_keys=False, width=100).encode()

    try:
        if isinstance(parent, ObjectFolder):
            # Nothing there says that a name is taken by a sweep that starts in the same second.
            there = parent / f"{stamp}-{secrets.token_hex(2)}"
            there.write(TRIALS_FILE, encoded)
            there.write(SWEEP_FILE, text(there.name))
            return open_sweep(there)
        folder = _new_folder(parent, stamp)
        (folder / "trials").mkdir()
        with atomic_write(folder / TRIALS_FILE) as file:
            file.write(encoded)
        with atomic_write(folder / SWEEP_FILE) as file:
            file.write(text(folder.name))
    except OSError as error:
        raise _unwritable(parent, error) from error
    return open_sweep(folder)


def _absolute(location: Location) -> Location:
    return location if isinstance(location, ObjectFolder) else location.resolve()


def open_sweep(folder: Location) -> Sweep:
    """Read a sweep's plan.

    Args:
        folder: of the sweep. From an object store, the plan is copied into this node's cache.

    Raises:
        UsageError: if the folder holds no sweep, a damaged one, or one of another format.
    """
    return _open(folder, _all_trials)


def open_planned(folder: Location, trial: str) -> tuple[Sweep, Trial]:
    """Read one trial of a plan, without the time and the memory that thousands would take.

    Args:
        folder: of the sweep.
        trial: its id.

    Returns:
        The sweep, of which only this trial is read, and the trial.

    Raises:
        UsageError: as from `open_sweep`, or if there is no such trial.
    """

    def read(folder: Path, document: Mapping[str, Any]) -> tuple[Trial, ...]:
        if document["format"] == 1:
            return tuple(each for each in _all_trials(folder, document) if each.id == trial)
        values = decode_trial((folder / TRIALS_FILE).read_bytes(), trial)
        found = [] if values is None else [Trial(**values)]
        if any(each.id != trial for each in found):
            raise DamagedError(f"{TRIALS_FILE}: trial {trial} is not what its name says")
        return tuple(found)

    sweep = _open(folder, read)
    if not sweep.trials:
        raise UsageError(f"{folder}: has no trial {trial}")
    return sweep, sweep.trials[0]


def _all_trials(folder: Path, document: Mapping[str, Any]) -> tuple[Trial, ...]:
    said = document["trials"]
    if document["format"] == 1:
        return tuple(Trial(**trial) for trial in said)
    content = (folder / TRIALS_FILE).read_bytes()
    beginning = content[: said["bytes"]] if "search" in document else content
    if hashlib.sha256(beginning).hexdigest() != said["sha256"]:
        raise DamagedError(f"{TRIALS_FILE} is not the one that was written with it")
    trials = tuple(Trial(**values) for values in decode_trials(content))
    if "search" in document:  # no hash vouches for what was added
        for trial, name in zip(trials, decode_ids(content), strict=True):
            if trial.id != name:
                raise DamagedError(f"{TRIALS_FILE}: trial {name} is not what its name says")
    return trials


def _working_folder(there: ObjectFolder) -> Path:
    """Where this node keeps its copy of a sweep that is on an object store."""
    digest = hashlib.sha256(there.uri.encode()).hexdigest()[:16]
    return default_cache_dir() / "sweeps" / digest / there.name


def _fetch_plan(there: ObjectFolder, folder: Path) -> None:
    try:
        there.download([SWEEP_FILE], folder)
        document = load_yaml(folder / SWEEP_FILE)
        planned = document.get("trials")
        if not isinstance(planned, Mapping):
            return  # of the first format, or damaged: what reads it says so
        path = folder / TRIALS_FILE
        # Thousands of trials are megabytes, and every trial on this node comes here.
        have = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        if "search" in document:  # it grows, by the hand of its driver
            current = have is not None and is_locked(folder / LOCK_FILE)
        else:
            current = have == planned.get("sha256")
        if not current:
            there.download([TRIALS_FILE], folder)
    except FileNotFoundError as error:
        raise UsageError(f"{there}: is not a sweep (it lacks a file of the plan)") from error
    except OSError as error:
        raise UsageError(f"{there}: cannot be read ({one_line(error)})") from error


def _open(
    location: Location, read_trials: Callable[[Path, Mapping[str, Any]], tuple[Trial, ...]]
) -> Sweep:
    if isinstance(location, ObjectFolder):
        folder, remote = _working_folder(location), location
        _fetch_plan(remote, folder)
    else:
        folder, remote = location, None
    path = folder / SWEEP_FILE
    if not path.is_file():
        raise UsageError(f"{folder}: is not a sweep (it has no {SWEEP_FILE})")
    document = load_yaml(path)
    if document.get("format") not in FORMATS:
        raise UsageError(
            f"{path}: format {document.get('format')!r}; this version reads "
            f"{' and '.join(map(str, FORMATS))}"
        )
    try:
        data_dir = document["data_dir"]
        return Sweep(
            folder=folder,
            space=document["space"],
            profile=document["profile"],
            data_dir=None if data_dir is None else parse_location(data_dir),
            resources=ResourceOptions.model_validate_json(
                json.dumps(document["resources"]), strict=True
            ),
            trials=read_trials(folder, document),
            remote=remote,
            growth=_growth(document),
            early_stopping=_pruner(document.get("early_stopping")),
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise UsageError(f"{path}: is damaged: {' '.join(str(error).split())}") from error


def _pruner(said: Mapping[str, Any] | None) -> Pruner | None:
    if said is None:
        return None
    options = {key: value for key, value in said.items() if key != "rule"}
    rule = PRUNERS[said.get("rule", "asha")]  # plans of earlier versions have no other
    return rule.model_validate_json(json.dumps(options), strict=True)


def _growth(document: Mapping[str, Any]) -> Growth | None:
    if (said := document.get("search")) is None:
        return None
    return Growth(
        study=str(said["study"]),
        code=str(said["code"]),
        evaluation=dict(said["evaluation"]),
        hashes=dict(said["hashes"]),
        total=int(said["total"]),
        source=str(document["source"]),
        profile=str(document["profile"]),
        resolved=dict(document["resolved"]),
    )


def _new_folder(parent: Path, name: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    for suffix in ("", *(f"-{i}" for i in range(2, 1000))):
        folder = parent / (name + suffix)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise UsageError(f"{parent}: a thousand sweeps were started here within one second")


def _plain(value: Any) -> Any:
    """Tuples as lists, so that the YAML holds plain types only."""
    return json.loads(json.dumps(value, default=str))
